"""The whole way of a new workspace: made, vendored, and built on a machine that reaches nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.program import Forge, copy_code

pytestmark = pytest.mark.e2e

CLOSED = '\n[sources]\n"*" = "vendor"\npypi = []\npytorch-cpu = []\ndebian = []\nhf = []\n'


def test_a_new_workspace_builds_and_passes_its_test_without_a_network(tmp_path: Path) -> None:
    code = copy_code(tmp_path / "code")
    Forge(code, tmp_path)("init", "shop")
    # What is in the user's own store need not be downloaded again.
    open_machine = Forge(code, tmp_path / "shop")
    open_machine("vendor", "//...", "--to=vendor")
    specification = open_machine("spec", "//hello:smoke").stdout
    workspace = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "shop", workspace)
    shutil.rmtree(tmp_path / "shop")
    with (workspace / "WORKSPACE.toml").open("a") as file:
        file.write(CLOSED)
    proxy = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    pip = {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "NO_PROXY": ""}
    closed = Forge(code, workspace, {"FORGE_HOME": str(tmp_path / "home"), **proxy, **pip})
    fetched = closed("fetch", "//...").stderr
    built = closed("build", "//...").stdout
    tested = closed("test", "//...").stdout

    assert re.search(r"(\d+) files, .*: \1 downloaded, the rest was there\n$", fetched)
    assert "  forge-out/hello/cpu_onnx" in built
    assert "//hello:smoke@cpu_onnx  PASSED\n" == tested
    assert keys(specification).items() <= keys(closed("spec", "//hello:smoke").stdout).items()
    assert closed("doctor").stdout.count("fault") == 0


def test_its_launcher_takes_forge_from_the_wheel_beside_the_lock(tmp_path: Path) -> None:
    """pip itself, with the lock's own words; what forge depends on is left to ./forgew and an index."""
    code = copy_code(tmp_path / "code")
    Forge(code, tmp_path)("init", "shop")
    requirements = tmp_path / "shop/requirements"
    lock = (requirements / "forge.lock").read_text()
    (tmp_path / "own.txt").write_text(lock[lock.index("forge-build==") :])
    line = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--require-hashes"]
    line += ["--find-links", str(requirements), "--target", str(tmp_path / "site"), "-r", str(tmp_path / "own.txt")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stdout), done.stderr
    forge = Forge(tmp_path / "site", tmp_path / "shop")

    assert forge("version").stdout.startswith("forge ")
    assert "//hello:cpu_onnx" in forge("query", "//hello:all").stdout.split()


def keys(text: str) -> dict[str, str]:
    """Read a specification's keys, of those actions whose key is known."""
    found = re.findall(r"^action (\S+)\n    key ([0-9a-f]{64}\S+)$", text, re.MULTILINE)
    return dict(found)
