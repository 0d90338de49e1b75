"""pylock.toml from a lock: valid by the specification's own code, and installed from by uv, without a network."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.pylock import Pylock
from uv import find_uv_bin

from forge.core.digest import Digest, Hash
from forge.core.errors import UserError
from forge.core.lock import Material
from forge.core.platform import Arch
from forge.packages.export_pylock import render_pylock
from forge.packages.target_python import PythonTarget
from tests.packages.test_wheel import wheel as made_wheel

NUMPY = Material(
    "numpy", "2.4.1", "numpy-2.4.1-cp311-cp311-manylinux_2_28_x86_64.whl", Digest("a" * 64, 16_000_000), "pypi"
)
TORCH = Material("torch", "2.13.0+cpu", "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl", Hash("b" * 64), "pytorch-cpu")
SDIST = Material("llama-cpp-python", "0.3.36", "llama_cpp_python-0.3.36.tar.gz", Digest("c" * 64, 76), "pypi")


def pylock(
    *wheels: Material, sdists: tuple[Material, ...] = (), arch: Arch = "amd64", folder: str = "vendor"
) -> Pylock:
    target = PythonTarget(arch, "3.11")
    found = Pylock.from_dict(tomllib.loads(render_pylock(target, wheels, sdists, folder=folder)))
    found.validate()
    return found


def test_each_wheel_is_named_with_its_digest_and_a_place_in_the_folder() -> None:
    numpy, torch = pylock(TORCH, NUMPY).packages
    assert numpy.wheels is not None and torch.wheels is not None

    assert [(each.name, str(each.version)) for each in (numpy, torch)] == [("numpy", "2.4.1"), ("torch", "2.13.0+cpu")]
    assert (numpy.wheels[0].name, numpy.wheels[0].path) == (NUMPY.file, f"vendor/{NUMPY.file}")
    assert (numpy.wheels[0].size, numpy.wheels[0].hashes) == (16_000_000, {"sha256": "a" * 64})
    assert (torch.wheels[0].size, torch.wheels[0].hashes) == (None, {"sha256": "b" * 64})


def test_what_is_built_here_is_an_sdist() -> None:
    (package,) = pylock(sdists=(SDIST,)).packages

    assert package.sdist is not None and package.wheels is None
    assert (package.sdist.filename, package.sdist.hashes) == (SDIST.file, {"sha256": "c" * 64})


@pytest.mark.parametrize(("arch", "machine"), [("amd64", "x86_64"), ("arm64", "aarch64")])
def test_it_is_for_one_machine_and_one_python(arch: Arch, machine: str) -> None:
    found = pylock(NUMPY, arch=arch)
    marker = {"sys_platform": "linux", "platform_machine": machine, "implementation_name": "cpython"}

    assert found.environments is not None and str(found.requires_python) == "==3.11.*"
    assert [each.evaluate(marker) for each in found.environments] == [True]
    assert [each.evaluate({**marker, "platform_machine": "riscv64"}) for each in found.environments] == [False]


@pytest.mark.parametrize("folder", ["", "."])
def test_the_wheels_may_lie_beside_the_file(folder: str) -> None:
    (package,) = pylock(NUMPY, folder=folder).packages

    assert package.wheels is not None and package.wheels[0].path == NUMPY.file


def test_the_same_lock_gives_the_same_bytes() -> None:
    target = PythonTarget("amd64", "3.11")

    assert render_pylock(target, [NUMPY, TORCH, NUMPY], folder="v") == render_pylock(target, [TORCH, NUMPY], folder="v")


def test_two_versions_of_a_package_are_refused() -> None:
    other = Material("numpy", "1.26.4", "numpy-1.26.4-cp311-cp311-linux_x86_64.whl", Digest("d" * 64, 1), "pypi")

    with pytest.raises(UserError, match="`numpy` is locked twice, as `numpy-2.4.1-.*` and as `numpy-1.26.4-"):
        pylock(NUMPY, other)


DEMO = {
    "demo/__init__.py": b"print('demo')\n",
    "demo-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pylock.toml for the Python that runs the tests, with a wheel in `vendor` beside it."""
    data = made_wheel(DEMO)
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "demo-1.0-py3-none-any.whl").write_bytes(data)
    demo = Material("demo", "1.0", "demo-1.0-py3-none-any.whl", Digest.of(data), "pypi")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    arch: Arch = "arm64" if platform.machine() == "aarch64" else "amd64"
    text = render_pylock(PythonTarget(arch, python), [demo], folder="vendor")
    (tmp_path / "pylock.toml").write_text(text)
    return tmp_path


def install(folder: Path) -> subprocess.CompletedProcess[str]:
    argv = [find_uv_bin(), "pip", "install", "--offline", "--no-index", "--no-config", "--python", sys.executable]
    argv += ["--target", "site", "--cache-dir", "cache", "-r", "pylock.toml"]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_uv_installs_from_it_without_an_index(folder: Path) -> None:
    done = install(folder)

    assert (done.returncode, done.stderr) == (0, done.stderr)
    assert (folder / "site/demo-1.0.dist-info/METADATA").exists()


def test_uv_refuses_a_wheel_that_is_not_what_was_locked(folder: Path) -> None:
    other = made_wheel({**DEMO, "demo/__init__.py": b"print('bad!')\n"})
    (folder / "vendor/demo-1.0-py3-none-any.whl").write_bytes(other)

    done = install(folder)

    assert done.returncode != 0 and not (folder / "site/demo").exists()
    assert re.search("Hash mismatch|lockfile records", done.stderr)
