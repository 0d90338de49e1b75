"""Plays the transcripts of this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.scenarios.conftest import busybox
from tests.scenarios.transcript import Transcript, matches

pytestmark = pytest.mark.e2e

FILES = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path, code: Path, home: Path, tmp_path: Path) -> None:
    transcript = Transcript.read(path)
    workspace = tmp_path / "workspace"
    transcript.write(workspace)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FORGE_")}
    for name in ("NO_COLOR", "FORCE_COLOR", "CI"):
        environ.pop(name, None)
    environ |= {
        "FORGE_HOME": str(home),
        "PATH": f"{code / 'bin'}:{environ.get('PATH', '/usr/bin:/bin')}",
        "SCRATCH": str(tmp_path),
        "BUSYBOX": busybox(code),
        "LOCK": str(code / "toolchains/locks/busybox.amd64.deb.toml"),
    }
    for step in transcript.steps:
        done = subprocess.run(
            ["sh", "-c", step.command],
            cwd=workspace,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

        shown = f"{path.name}:{step.line}: $ {step.command}\n{done.stdout}\n! {done.stderr}\n[exit {done.returncode}]"
        assert "Traceback" not in done.stderr, shown
        assert done.returncode == step.code, shown
        assert matches(step.stdout, done.stdout), shown
        assert matches(step.stderr, done.stderr), shown
    shutil.rmtree(workspace)


def test_every_transcript_says_what_it_shows() -> None:
    assert [path.name for path in FILES if not path.read_text().startswith("# ")] == []
