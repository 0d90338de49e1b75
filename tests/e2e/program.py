"""The command as a person runs it: a process of its own, in a folder, with an environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
CODE = ("forge", "rules", "runtime", "toolchains")
"""What forge is made of, in a checkout."""
LAUNCHER = ("forgew", "requirements/environment.sh", "requirements/forge.lock", "LICENSE")
"""What it gives to workspaces that it makes."""
SECONDS = 900

_RAN = re.compile(r"^\[\d+/\d+\] (.+?)(?: \([\d.]+ [kMG]?B\))? [\d.]+ s$", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """What a command came to."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def ran(self) -> list[str]:
        """The actions that ran, by their plain progress lines, sorted."""
        return sorted(_RAN.findall(self.stderr))

    @property
    def table(self) -> Any:
        """Standard output, as JSON."""
        return json.loads(self.stdout)

    def digest(self, label: str) -> str:
        """The digest that was printed for a target."""
        rows = [line.split() for line in self.stdout.splitlines()]
        (found,) = (row[1] for row in rows if row and row[0] == label)
        return found


@dataclass(frozen=True)
class Forge:
    """Runs commands in one folder."""

    checkout: Path
    """Folder with forge's own code."""
    cwd: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    """On top of the test's own environment, which is cleared of FORGE_*."""
    prefix: tuple[str, ...] = ()
    """Words before the command, such as `taskset`."""

    def __call__(self, *argv: str, code: int | None = 0, **environ: str) -> Result:
        """Run a command to its end; it must exit with `code`, unless that is None, and show no traceback."""
        done = subprocess.run(
            self.line(argv),
            cwd=self.cwd,
            env=self.variables(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        result = Result(argv, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in result.stderr, result.stderr
        assert code is None or code == result.code, f"forge {' '.join(argv)}\n{result.stdout}{result.stderr}"
        return result

    def start(self, *argv: str, **environ: str) -> subprocess.Popen[str]:
        """Start a command and leave it running, with both outputs in pipes."""
        return subprocess.Popen(
            self.line(argv),
            cwd=self.cwd,
            env=self.variables(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self, argv: Sequence[str]) -> list[str]:
        """Write the command line."""
        return [*self.prefix, sys.executable, "-m", "forge", *argv]

    def variables(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Write the environment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FORGE_")}
        for name in ("NO_COLOR", "FORCE_COLOR", "CI", "PYTHONHASHSEED"):
            kept.pop(name, None)
        return {**kept, "PYTHONPATH": str(self.checkout), **self.environ, **(more or {})}

    def elsewhere(self, folder: Path) -> Forge:
        """Copy the workspace, without what was built, and work there."""
        shutil.copytree(self.cwd, folder, symlinks=True, ignore=shutil.ignore_patterns("forge-out"))
        return Forge(self.checkout, folder, self.environ, self.prefix)


@dataclass(frozen=True)
class Sandboxes:
    """Counts sandboxes from outside: a program in place of bubblewrap that notes its arguments and becomes it."""

    program: Path
    notes: Path

    @classmethod
    def make(cls, folder: Path, bwrap: str) -> Sandboxes:
        """Write the program."""
        notes, program = folder / "started", folder / "bwrap"
        notes.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{notes}/$$"\nexec "{bwrap}" "$@"\n')
        program.chmod(0o755)
        return cls(program, notes)

    def started(self) -> set[str]:
        """Name the sandboxes that have been started so far."""
        return {path.name for path in self.notes.iterdir()}

    def roots(self, name: str) -> Path:
        """Tell which folder a sandbox had as its root."""
        words = (self.notes / name).read_text().splitlines()
        (found,) = (words[at + 1] for at, word in enumerate(words) if word == "--ro-bind" and words[at + 2] == "/")
        return Path(found)


def copy_code(folder: Path) -> Path:
    """Copy forge's own code, as a clone has it."""
    for name in CODE:
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (folder / "requirements").mkdir()
    for name in LAUNCHER:
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


def find_bwrap(checkout: Path) -> str:
    """Ask forge which bubblewrap it uses."""
    shown = Forge(checkout, REPOSITORY)("info").stdout
    (found,) = (line.split(maxsplit=1)[1] for line in shown.splitlines() if line.startswith("sandbox "))
    return found


def descendants(pid: int) -> set[tuple[int, str]]:
    """List the processes below one, each with its start time, which tells it from a later one of the same number."""
    parents: dict[int, list[tuple[int, str]]] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append((int(name), fields[19]))
    found: set[tuple[int, str]] = set()
    pending = [pid]
    while pending:
        children = parents.get(pending.pop(), [])
        found.update(children)
        pending.extend(number for number, _ in children)
    return found


def alive(processes: set[tuple[int, str]]) -> set[tuple[int, str]]:
    """Tell which of some processes are still there."""
    found = set()
    for number, since in processes:
        try:
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[19] == since and fields[0] != "Z":
            found.add((number, since))
    return found
