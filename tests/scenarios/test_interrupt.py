"""Ctrl-C during a build, and two builds at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.program import Forge, Sandboxes, alive, descendants
from tests.scenarios.transcript import WORKSPACE

pytestmark = pytest.mark.e2e

BUILD = """\
[fast]
rule = "command"
shell = "echo {salt} > $OUT"
outs = ["fast"]

[slow]
rule = "command"
shell = "sleep 300 & sleep 301; cat $DEPS > $OUT"
deps = [":fast"]
outs = ["slow"]
"""
SECONDS = 30.0


@pytest.fixture
def forge(code: Path, home: Path, tmp_path: Path, sandboxes: Sandboxes) -> Forge:
    """A workspace with a target that takes its time."""
    workspace = tmp_path / "workspace"
    (workspace / "targets/a").mkdir(parents=True)
    (workspace / "WORKSPACE.toml").write_text(WORKSPACE)
    (workspace / "targets/a/BUILD.toml").write_text(BUILD.format(salt=tmp_path.name))
    return Forge(code, workspace, {"FORGE_HOME": str(home), "FORGE_BWRAP": str(sandboxes.program)})


def await_slow(running: subprocess.Popen[str], sandboxes: Sandboxes) -> set[tuple[int, str]]:
    """Wait until the second action is under way; the processes of the build."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and running.poll() is None:
        processes = descendants(running.pid)
        if len(sandboxes.started()) == 2 and sum(_name(pid).startswith("sleep") for pid, _ in processes) == 2:
            return processes
        time.sleep(0.02)
    raise AssertionError(f"The slow action never ran: {running.communicate(timeout=5)}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupt_ends_everything_and_keeps_what_was_finished(
    forge: Forge, home: Path, sandboxes: Sandboxes, number: int
) -> None:
    running = forge.start("build", "//a:slow")
    processes = await_slow(running, sandboxes)

    begun = time.monotonic()
    running.send_signal(number)
    stdout, stderr = running.communicate(timeout=SECONDS)
    seconds = time.monotonic() - begun

    assert running.returncode == 8, stderr
    assert stdout == ""
    assert stderr.endswith("forge: interrupted\n")
    assert "Traceback" not in stderr
    assert alive(processes) == set()
    assert seconds < 10
    assert os.listdir(home / "sandbox") == []
    assert os.listdir(home / "tmp") == []
    assert forge("build", "//a:fast", "--output=json").table["actions"]["ran"] == 0


def test_another_build_waits_or_gives_up(forge: Forge, sandboxes: Sandboxes) -> None:
    running = forge.start("build", "//a:slow")
    try:
        await_slow(running, sandboxes)

        second = forge("build", "//a:fast", "--noblock_for_lock", code=9)

        assert second.stdout == ""
        assert second.stderr.startswith("error: Another command is building in this workspace\n")
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=SECONDS)
    assert forge("build", "//a:fast", "--noblock_for_lock").stdout.startswith("//a:fast  sha256:")


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""
