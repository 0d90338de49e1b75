"""A disk that is full: said so, and nothing that was finished is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.program import Forge
from tests.scenarios.transcript import WORKSPACE

pytestmark = pytest.mark.e2e

BUILD = """\
[small]
rule = "command"
shell = "echo small > $OUT"
outs = ["small"]

[large]
rule = "command"
shell = "cat $DEPS > $OUT; dd if=/dev/urandom bs=1M count=20 >> $OUT"
deps = [":small"]
outs = ["large"]
"""
SCRIPT = """\
mount -t tmpfs -o size=16m tmpfs "$1" || exit 99
cp -r "$2/." "$1"
"""


def test_a_full_disk_is_named_and_what_was_finished_is_kept(code: Path, home: Path, tmp_path: Path) -> None:
    workspace, disk, seed = tmp_path / "workspace", tmp_path / "disk", tmp_path / "seed"
    (workspace / "targets/a").mkdir(parents=True)
    (workspace / "WORKSPACE.toml").write_text(WORKSPACE)
    (workspace / "targets/a/BUILD.toml").write_text(BUILD)
    for path in home.glob("cas/*/*"):
        if path.stat().st_size == 928188:
            (seed / "cas" / path.parent.name).mkdir(parents=True)
            shutil.copy2(path, seed / "cas" / path.parent.name)
    disk.mkdir()
    forge = Forge(code, workspace, {"FORGE_HOME": str(disk)})
    small = " ".join(forge.line(["build", "//a:small"]))
    large = " ".join(forge.line(["build", "//a:large"]))
    script = SCRIPT + f'{large}; echo "code $?"; {small}; echo "code $?"\n'
    script += f'mount -o remount,size=64m "$1"; {large}; echo "code $?"\n'
    line = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(disk), str(seed)]
    if os.geteuid() == 0:
        line.remove("--user")
        line.remove("--map-root-user")

    done = subprocess.run(line, cwd=workspace, env=forge.variables(), capture_output=True, text=True, check=False)

    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"No file system of its own to be had here: {done.stderr}")
    codes = [row for row in done.stdout.splitlines() if row.startswith("code ")]
    assert codes == ["code 36", "code 0", "code 0"], done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert f"error: No space left to write `{disk}" in done.stderr
    assert "1 target up to date: 1 action ran, 4 cached" in done.stderr
