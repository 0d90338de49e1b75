"""Locks do not depend on the machine that resolves them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from forge.core.digest import Digest
from forge.core.lock import Lock
from forge.core.lock_text import parse
from tests.e2e.conftest import need
from tests.e2e.program import Forge, find_bwrap
from tests.net.test_download import Site, open_site

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent / "resolver"
LOCKS = Path(__file__).parents[2] / "toolchains/locks"
EMULATOR = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")


def test_locking_arm64_gives_the_same_on_arm64(checkout: Path, tmp_path: Path) -> None:
    """The resolver runs here, and again in a root for arm64 that forge has made, with uv's own program for arm64.

    The index offers what the locks of both architectures name, and decoys that only the other one could take.
    """
    need("emulation of arm64", os.uname().machine == "aarch64" or EMULATOR.is_file())
    expected = (LOCKS / "arm_llm_llama.python.toml").read_text()
    wanted = tomllib.loads(expected)["requested"]
    root = build_root(checkout, tmp_path / "workspace")
    with open_site() as site:
        offer(site, [read("cpu_llm_llama"), read("arm_llm_llama")])
        index = f"{site.address}/simple"
        here = run([sys.executable, str(HERE / "resolve.py"), index, str(tmp_path), *wanted], str(checkout))
        # Its network is this machine's, for the index; an emulator that was registered for good needs no file in there.
        inside = ["/usr/bin/python3.11", "/build/resolver/resolve.py", index, "/tmp", *wanted]
        there = run([find_bwrap(checkout), *mounts(root, checkout), *inside])

    assert ("aarch64", expected) == (there.stderr, there.stdout)
    assert expected == here.stdout


def build_root(checkout: Path, workspace: Path) -> Path:
    """Build the locked root file system that the resolver runs in on arm64."""
    shutil.copytree(HERE, workspace / "targets/resolver", ignore=shutil.ignore_patterns("*.py"))
    (workspace / "WORKSPACE.toml").write_text('[workspace]\nname = "resolver"\n')
    home = os.environ.get("FORGE_E2E_HOME")
    forge = Forge(checkout, workspace, {"FORGE_HOME": home} if home else {})
    forge("build", "//resolver:all")
    return (workspace / "forge-out/resolver/resolver@arm64").resolve()


def mounts(root: Path, checkout: Path) -> list[str]:
    """Say how to see `root`, with the code below the one folder that it leaves free."""
    folders = ["--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/build"]
    code = ["--ro-bind", str(checkout), "/build/forge", "--ro-bind", str(HERE), "/build/resolver"]
    return [*folders, *code, "--die-with-parent", "--clearenv", "--setenv", "PYTHONPATH", "/build/forge"]


def run(argv: list[str], path: str = "") -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], **({"PYTHONPATH": path} if path else {})}
    return subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=300, check=False)


def read(name: str) -> Lock:
    return parse(tomllib.loads((LOCKS / f"{name}.python.toml").read_text()))


def offer(site: Site, locks: list[Lock]) -> None:
    """Serve an index with the files of `locks`, each with metadata of its own (PEP 658), and decoys."""
    pages: dict[str, dict[str, dict[str, object]]] = {}
    root = locks[0].requested[0]
    rest = sorted({each.name for lock in locks for each in lock.materials} - {root})
    for lock in locks:
        for each in lock.materials:
            assert isinstance(each.digest, Digest)
            decoy = f"{each.name.replace('-', '_')}-9999-cp311-cp311-manylinux_2_17_x86_64.whl"
            for version, file in ((each.version, each.file), ("9999", decoy)):
                needs = "".join(f"Requires-Dist: {name}\n" for name in rest) if each.name == root else ""
                text = f"Metadata-Version: 2.1\nName: {each.name}\nVersion: {version}\n{needs}"
                site.files[f"/files/{file}.metadata"] = text.encode()
                site.files[f"/files/{file}"] = b"only small ones are looked into, and only for being empty"
                pages.setdefault(each.name, {})[file] = {
                    "filename": file,
                    "url": f"/files/{file}",
                    "core-metadata": True,
                    "size": each.digest.size,
                    "hashes": {"sha256": each.digest.hash},
                }
    for name, files in pages.items():
        document = {"meta": {"api-version": "1.1"}, "name": name, "files": list(files.values())}
        site.files[f"/simple/{name}/"] = json.dumps(document).encode()
        site.types[f"/simple/{name}/"] = "application/vnd.pypi.simple.v1+json"
