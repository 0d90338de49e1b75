"""TOML files with the places of their keys.

No TOML reader gives line numbers, so a scanner of our own finds them, best effort: a key that it
cannot find gets the line of its table, or the file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forge.core.errors import Fault, LoadError

_HEADER = re.compile(r"\s*\[\[?([^\]]+)\]")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_WORD = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A parsed file, its name for messages, and where its keys stand."""

    name: str
    """Path as messages show it."""
    folder: Path
    table: dict[str, Any]
    lines: Mapping[tuple[str, ...], int] = field(repr=False, default_factory=dict)

    def place(self, *keys: str) -> str:
        """Name `file:line` of a key, or of the nearest thing around it."""
        for end in range(len(keys), 0, -1):
            line = self.lines.get(keys[:end])
            if line is not None:
                return f"{self.name}:{line}"
        return self.name


def parse_toml(text: bytes, name: str, folder: Path) -> TomlFile:
    """Parse; LoadError with the line when it is no TOML."""
    try:
        import tomli as toml
    except ImportError:  # pragma: no cover - the lock has tomli; a bare checkout on 3.11 may not
        import tomllib as toml  # type: ignore[no-redef]
    try:
        decoded = text.decode()
        table = toml.loads(decoded)
    except UnicodeDecodeError as error:
        raise LoadError("Is not UTF-8", place=f"{name}:{_line_at(text, error.start)}") from error
    except (ValueError, RecursionError) as error:  # ValueError also for a number of more digits than Python reads
        match = re.search(r"\(at line (\d+), column \d+\)", str(error))
        at_end = "at end of document" in str(error)
        place = f"{name}:{match[1] if match else _line_at(text, len(text))}" if match or at_end else name
        message = re.sub(r" \(at .*\)$", "", str(error))
        raise LoadError(f"Is not TOML: {message[:1].lower()}{message[1:]}", place=place) from error
    file = TomlFile(name, folder, table, _scan(decoded))
    faults = [Fault("Is a number of more than 64 bits", file.place(*keys)) for keys in _oversized(table)]
    if faults:
        raise LoadError(*faults)
    return file


def nearest(word: str, known: Iterable[str]) -> str:
    """Put the nearest known word in a hint, or list what there is, or say nothing."""
    options = sorted(set(known))
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if close:
        return f"Did you mean `{close[0]}`?"
    if 0 < len(options) <= 24:
        return f"Known are [{', '.join(options)}]"
    return ""


def _scan(text: str) -> dict[tuple[str, ...], int]:
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    quote = ""
    for number, line in enumerate(text.split("\n"), 1):
        if quote:
            quote = "" if quote in line else quote
            continue
        if header := _HEADER.match(line):
            table = _words(header[1])
            for end in range(1, len(table) + 1):
                lines.setdefault(table[:end], number)
            lines[table] = number
        elif key := _KEY.match(line):
            words = _words(key[1])
            for end in range(1, len(words) + 1):
                lines.setdefault(table + words[:end], number)
        for mark in ('"""', "'''"):
            if line.count(mark) % 2:
                quote = mark
    return lines


def _line_at(text: bytes, position: int) -> int:
    return text[:position].rstrip(b"\n").count(b"\n") + 1


def _oversized(value: object, keys: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Find integers that TOML does not have: other programs would not read what forge makes of them."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _oversized(item, (*keys, key))
    elif isinstance(value, list):
        for item in value:
            yield from _oversized(item, keys)
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        yield keys


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip("\"'") for word in _WORD.findall(text))
