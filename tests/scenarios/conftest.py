"""A store that has the one material that scenarios need."""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge.execution.home import home_folder
from tests.e2e.program import Forge, Sandboxes, copy_code, find_bwrap
from tests.scenarios.transcript import WORKSPACE

WARM = """\
[warm]
rule = "command"
shell = "true > $OUT"
outs = ["warm"]
"""


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of forge's code, and a program `forge` that runs it."""
    folder = copy_code(tmp_path_factory.mktemp("code"))
    (folder / "bin").mkdir()
    program = folder / "bin/forge"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" -m forge "$@"\n')
    program.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def home(code: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with busybox in it: taken from the user's own store, downloaded where that has none."""
    base = tmp_path_factory.mktemp("scenarios")
    home, workspace = base / "home", base / "workspace"
    material = busybox(code)
    known = home_folder(os.environ) / "cas" / material[:2] / material
    if known.exists():
        (home / "cas" / material[:2]).mkdir(parents=True)
        shutil.copy2(known, home / "cas" / material[:2])
    (workspace / "targets/warm").mkdir(parents=True)
    (workspace / "WORKSPACE.toml").write_text(WORKSPACE)
    (workspace / "targets/warm/BUILD.toml").write_text(WARM)
    Forge(code, workspace, {"FORGE_HOME": str(home)})("build", "//...")
    yield home
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def sandboxes(code: Path, tmp_path: Path) -> Sandboxes:
    """Notes each sandbox that is started."""
    return Sandboxes.make(tmp_path / "sandboxes", find_bwrap(code))


def busybox(code: Path) -> str:
    """Read the hash of the package from its lock."""
    lock = tomllib.loads((code / "toolchains/locks/busybox.amd64.deb.toml").read_text())
    (package,) = lock["package"]
    return str(package["sha256"])
