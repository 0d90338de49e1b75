"""A service with Python packages of its own: locked beside its platform, in the image, and importable."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.e2e.conftest import edit
from tests.e2e.layout import Layout
from tests.e2e.program import Forge, Result, copy_code

pytestmark = pytest.mark.e2e

LOCK = "targets/hello/locks/server.cpu_onnx.python.toml"


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_code(tmp_path_factory.mktemp("code"))


@pytest.fixture
def shop(code: Path, tmp_path: Path) -> Forge:
    """A new workspace whose handler rounds with a package that is nowhere but in a folder of this test."""
    links = tmp_path / "links"
    links.mkdir()
    wheel(links, "roundly", "1.0", "numpy>=2", code="def nearest(x):\n    return round(float(x), 2)\n")
    wheel(links, "oldly", "1.0", "numpy<2")
    (numpy,) = (
        each["version"]
        for each in tomllib.loads((code / "toolchains/locks/cpu_onnx.python.toml").read_text())["package"]
        if each["name"] == "numpy"
    )
    for version in ("1.26.4", numpy):  # for the resolver alone: what the platform has is not in the lock
        wheel(links, "numpy", version)
    Forge(code, tmp_path)("init", "shop")
    folder = tmp_path / "shop/targets/hello"
    edit(folder / "BUILD.toml", 'handler = "handler.py"\n', 'handler = "handler.py"\ndeps = ["roundly"]\n')
    edit(folder / "handler.py", "import json\n", "import json\n\nimport roundly\n")
    edit(folder / "handler.py", "round(float(degrees), 2)", "roundly.nearest(degrees)")
    found = f"{links} {os.environ.get('PIP_FIND_LINKS', '')}".strip()
    return Forge(code, tmp_path / "shop", {"PIP_FIND_LINKS": found, "LINKS": str(links)})


def lock(shop: Forge, *flags: str, code: int = 0) -> Result:
    """Lock the service with nothing but the folder of the test."""
    closed = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": shop.environ["LINKS"], "PIP_CONFIG_FILE": "/dev/null"}
    return shop("lock", *flags, "//hello:server", code=code, **closed)


def test_own_packages_are_locked_built_listed_and_served(shop: Forge) -> None:
    skipped = shop("build", "//hello/...").stderr
    named = shop("build", "//hello:cpu_onnx", code=1).stderr
    lock(shop)
    written = (shop.cwd / LOCK).read_text()
    again = lock(shop)
    lock(shop, "--check")
    tested = shop("test", "//hello:smoke").stdout
    shop("build", "//hello:cpu_onnx")
    layout = Layout(shop.cwd / "forge-out/hello/cpu_onnx")
    bill = json.loads((shop.cwd / "forge-out/hello/cpu_onnx.sbom.json").read_text())

    assert "skipped //hello:server@cpu_onnx: " in skipped and "is not locked" in skipped
    assert "hint: Run `forge lock //hello:server`" in named
    assert written.count("[[package]]") == 1 and 'name = "roundly"' in written
    assert 'beside = [\n    "numpy==' in written
    assert "up to date" in again.stderr and (shop.cwd / LOCK).read_text() == written
    assert tested.startswith("//hello:smoke@cpu_onnx  PASSED")
    assert [each["created_by"] for each in layout.config["history"]][2:4] == ["Packages of the handler", "Model"]
    assert [each["version"] for each in bill["components"] if each["name"] == "roundly"] == ["1.0"]


def test_a_conflict_with_the_platform_names_both_sides(shop: Forge) -> None:
    edit(shop.cwd / "targets/hello/BUILD.toml", '"roundly"', '"oldly"')
    said = lock(shop, code=1).stderr

    assert "`deps` of `//hello:server` and `//toolchains:cpu_onnx` (forge:toolchains/cpu.toml:" in said
    assert "[oldly] need `numpy` 1." in said and "the platform has 2." in said
    assert not (shop.cwd / LOCK).exists()


def test_a_platform_that_changed_makes_the_lock_stale(shop: Forge) -> None:
    lock(shop)
    written = (shop.cwd / LOCK).read_text()
    (shop.cwd / LOCK).write_text(written.replace('"numpy==', '"numpy==9.'))
    said = shop("build", "//hello:cpu_onnx", code=1).stderr
    checked = lock(shop, "--check", code=1).stderr
    lock(shop)

    assert "is stale: it rests on `numpy` 9." in said and "hint: Run `forge lock //hello:server`" in said
    assert LOCK in checked
    assert (shop.cwd / LOCK).read_text() == written


def wheel(folder: Path, name: str, version: str, *requires: str, code: str = "") -> None:
    """Write a pure wheel of one module."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    members = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: MIT\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},"
        f"{len(text)}\n"
        for path, text in members.items()
    )
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in members.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    (folder / f"{name}-{version}-py3-none-any.whl").write_bytes(buffer.getvalue())
