"""Prometheus' text format, as far as a reader of a few figures needs it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Figure", "figures"]

_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?")
_LABEL = re.compile(r'\s*([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"\s*,?')
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One line: a name, its labels, a value."""

    name: str
    labels: Mapping[str, str]
    value: float


def figures(text: str) -> Iterator[Figure]:
    """Yield what can be read; what is no number, or none at all, is left out."""
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip()) if line and line[0] != "#" else None
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        if not math.isnan(value):
            yield Figure(match[1], dict(map(_label, _LABEL.findall(match[2] or ""))), value)


def _label(pair: tuple[str, str]) -> tuple[str, str]:
    return pair[0], re.sub(r"\\.", lambda found: _ESCAPES.get(found[0], found[0]), pair[1])
