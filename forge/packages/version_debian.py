"""Debian versions and their order. Debian Policy, section 5.6.12."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

Operator = Literal["<<", "<=", "=", ">=", ">>"]

_PARTS = re.compile(r"(\D*)(\d*)")

_Part = tuple[tuple[int, ...], int]
VersionKey = tuple[int, tuple[_Part, ...], tuple[_Part, ...]]
"""Keys compare as their versions do."""


@lru_cache(maxsize=1 << 14)
def version_key(version: str) -> VersionKey:
    """Make the key of a version by which to sort."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, "0"
    return int(epoch) if epoch.isdecimal() else 0, _parts(upstream), _parts(revision)


def satisfies(version: str, operator: Operator, bound: str) -> bool:
    """Say whether `version` is within a bound such as `(>= 2.36)`."""
    ours, theirs = version_key(version), version_key(bound)
    if operator == "=":
        return ours == theirs
    if operator == ">=":
        return ours >= theirs
    if operator == "<=":
        return ours <= theirs
    return ours > theirs if operator == ">>" else ours < theirs


def _parts(text: str) -> tuple[_Part, ...]:
    # The empty match at the end stays: `1.0~rc` must be less than `1.0`, whose next part is this end.
    return tuple((_order(letters), int(digits or 0)) for letters, digits in _PARTS.findall(text))


def _order(letters: str) -> tuple[int, ...]:
    # `~` sorts before the end, the end before letters, letters before everything else.
    ranks = [-1 if each == "~" else ord(each) if each.isalpha() else ord(each) + 256 for each in letters]
    return (*ranks, 0)
