"""What a person at a terminal sees: a live display, which is gone when the build is done."""

from __future__ import annotations

import errno
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.program import Forge
from tests.scenarios.transcript import WORKSPACE

pytestmark = pytest.mark.e2e

BUILD = """\
[x]
rule = "command"
description = "Wait a little"
shell = "sleep 1; echo {salt} > $OUT"
outs = ["x"]

[bad]
rule = "command"
shell = "sleep 0.3; echo what went wrong; exit 3"
outs = ["bad"]
tags = ["manual"]
"""
HIDE, SHOW, ERASE = "\x1b[?25l", "\x1b[?25h", "\x1b[2K"


@pytest.fixture
def forge(code: Path, home: Path, tmp_path: Path) -> Forge:
    """A workspace with an action that takes a second."""
    workspace = tmp_path / "workspace"
    (workspace / "targets/a").mkdir(parents=True)
    (workspace / "WORKSPACE.toml").write_text(WORKSPACE)
    (workspace / "targets/a/BUILD.toml").write_text(BUILD.format(salt=tmp_path.name))
    return Forge(code, workspace, {"FORGE_HOME": str(home), "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"})


def at_terminal(forge: Forge, *argv: str, **environ: str) -> tuple[int, str]:
    """Run a command with a terminal of its own; its exit code and all that the terminal got."""
    master, slave = pty.openpty()
    running = subprocess.Popen(
        forge.line(argv), cwd=forge.cwd, env=forge.variables(environ), stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    got = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            break
        if not chunk:
            break
        got += chunk
    os.close(master)
    return running.wait(timeout=30), got.decode().replace("\r\n", "\n")


def test_the_live_display_appears_and_is_gone_at_the_end(forge: Forge) -> None:
    code, got = at_terminal(forge, "build", "//a:x")

    assert code == 0
    assert re.search(r"\[\d/4\] 1 running\n", got)
    assert re.search(r"    Wait a little \d s", got)
    assert got.count(HIDE) == got.count(SHOW) == 1
    assert ERASE in got
    assert [line.split()[0] for line in screen(got)] == ["//a:x", "1"]


def test_a_failure_stays_on_the_screen(forge: Forge) -> None:
    code, got = at_terminal(forge, "build", "//a:bad")
    lines = screen(got)

    assert code == 1
    assert [line for line in lines if "running" in line] == []
    assert "what went wrong" in lines
    assert any("`//a:bad`: Command failed: exit code" in line for line in lines)


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"CI": "true"}], ids=["dumb", "ci"])
def test_where_no_display_is_wanted_lines_are_plain(forge: Forge, environ: dict[str, str]) -> None:
    code, got = at_terminal(forge, "build", "//a:x", "--color=no", **environ)

    assert code == 0
    assert "\x1b" not in got
    assert re.search(r"^\[\d/4\] Wait a little 1\.\d s$", got, re.MULTILINE)


def test_no_color_leaves_a_display_without_colours(forge: Forge) -> None:
    _, got = at_terminal(forge, "build", "//a:bad", NO_COLOR="1")

    assert re.findall(r"\x1b\[[0-9;]*m", got) == []


def test_an_archive_is_not_written_to_a_terminal(forge: Forge) -> None:
    code, got = at_terminal(forge, "image", "export", "//a:x", "--to=-")

    assert code == 2
    assert got.startswith("error: An archive does not belong on a terminal\n  hint: ")


def screen(got: str) -> list[str]:
    """Play a terminal: the lines that are left on it, by the few sequences that displays use."""
    lines, row, column = [""], 0, 0
    for text, code, final in re.findall(r"([^\x1b]+)|\x1b\[([?\d;]*)([A-Za-z])", got):
        for character in text:
            if character == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif character == "\r":
                column = 0
            else:
                lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
                column += 1
        if final == "A":
            row = max(0, row - int(code or 1))
        elif final == "K":
            lines[row] = "" if code == "2" else lines[row][:column]
        elif final == "J":
            lines[row:] = [lines[row][:column]]
    return [line.rstrip() for line in lines if line.strip()]
