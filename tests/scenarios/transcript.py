"""Transcripts: a text file with commands, what they must print, and the files of a workspace.

    # What this shows.
    $ forge build //a:x
    a line of standard output
    ! a line of standard error
    [exit 1]

    -- targets/a/BUILD.toml --
    …

A line that says `...` stands for any number of lines, `...` inside a line for any text, `! ...` likewise. A
stream of which no line is given must be empty; without `[exit N]` the code must be 0. Commands run in the
workspace's folder, by a shell. WORKSPACE.toml is made where a transcript has none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

WORKSPACE = '[workspace]\nname = "demo"\n'

_FILE = re.compile(r"^-- (\S+) --$", re.MULTILINE)
_EXIT = re.compile(r"\[exit (\d+)\]")


@dataclass
class Step:
    """One command, and what must come of it."""

    line: int
    command: str
    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    code: int = 0


@dataclass(frozen=True)
class Transcript:
    """A parsed file."""

    steps: tuple[Step, ...]
    files: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Transcript:
        """Read a file."""
        head, *rest = _FILE.split(path.read_text(encoding="utf-8"))
        files = {name: text.strip("\n") + "\n" for name, text in zip(rest[::2], rest[1::2], strict=True)}
        return cls(tuple(_steps(head)), {"WORKSPACE.toml": WORKSPACE, **files})

    def write(self, folder: Path) -> None:
        """Write the files."""
        for name, text in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def matches(expected: list[str], found: str) -> bool:
    """Compare printed text with the lines of a transcript."""
    pattern = ""
    for line in expected:
        if line == "...":
            pattern += r"(?:.*\n)*"
        else:
            pattern += ".*".join(re.escape(part) for part in line.split("...")) + r"\n"
    return re.fullmatch(pattern, found) is not None


def _steps(text: str) -> list[Step]:
    steps: list[Step] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("$ "):
            steps.append(Step(number, line[2:]))
        elif not line.strip() or line.startswith("#"):
            continue
        elif found := _EXIT.fullmatch(line):
            steps[-1].code = int(found[1])
        elif line.startswith("! "):
            steps[-1].stderr.append(line[2:])
        else:
            steps[-1].stdout.append(line)
    return steps
