"""apt's sources, as much of them as says which archive has which suite. See sources.list(5)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SCHEMES = ("http://", "https://", "file:")
_OPTIONS = re.compile(r"\[[^\]]*\]")


@dataclass(frozen=True, slots=True)
class AptSource:
    """One archive with its suites."""

    address: str
    suites: tuple[str, ...]
    origin: str
    """The file that names it."""


def read_apt_config(etc: Path) -> tuple[AptSource, ...]:
    """Read `apt/sources.list` and `apt/sources.list.d` below `etc`; none of them need exist."""
    folder = etc / "apt/sources.list.d"
    found: list[AptSource] = []
    for file in (etc / "apt/sources.list", *sorted(folder.glob("*.list")), *sorted(folder.glob("*.sources"))):
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:  # absent, or not for us to read: apt has it configured for someone else
            continue
        entries = _stanzas(text) if file.suffix == ".sources" else _lines(text)
        found += [AptSource(address, suites, str(file)) for address, suites in entries]
    return tuple(found)


def _lines(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for line in text.splitlines():
        words = _OPTIONS.sub(" ", line.partition("#")[0]).split()
        if len(words) >= 3 and words[0] == "deb" and words[1].startswith(_SCHEMES):
            yield words[1], (words[2],)


def _stanzas(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", kept):
        fields = {key.lower(): value for key, value in re.findall(r"(?m)^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza)}
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "").strip().lower() in ("no", "false"):
            continue
        suites = tuple(fields.get("suites", "").split())
        for address in fields.get("uris", "").split():
            if address.startswith(_SCHEMES):
                yield address, suites
