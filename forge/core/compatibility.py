"""Which versions of Python, CUDA, frameworks, drivers and JetPack go together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_BOUND = re.compile(r"(==|>=|<)([0-9]+(?:\.[0-9]+)*)(\.\*)?")
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A name, and what its version must be: `driver>=580`, `cuda==12.*,<12.8`."""

    name: str
    bounds: tuple[tuple[str, tuple[int, ...], bool], ...]
    """Operator, version, and whether what stands behind it does not matter."""
    text: str

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """Read one; ValueError when it is none."""
        match = re.fullmatch(r"([a-z0-9][a-z0-9-]*)((?:==|>=|<).*)", text.replace(" ", ""))
        bounds = [_BOUND.fullmatch(each) for each in match[2].split(",")] if match else []
        if match is None or not all(bounds):
            raise ValueError(f"`{text}` is no requirement, write such as `driver>=580` or `cuda==12.*`")
        return cls(match[1], tuple((each[1], _parts(each[2]), bool(each[3])) for each in bounds if each), text)

    def admits(self, version: str) -> bool:
        """Say whether a version is within the bounds; one for another machine, as `2.13.0+cpu`, is not."""
        if not _VERSION.fullmatch(version):
            return False
        return all(_holds(_parts(version), *bound) for bound in self.bounds)


@dataclass(frozen=True, slots=True)
class CompatibilityRow:
    """Where `when` holds, `needs` must, for each name that is known."""

    when: Requirement
    needs: tuple[Requirement, ...]
    source: str
    """Who says so."""
    place: str


def clashes(rows: Iterable[CompatibilityRow], versions: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    """Say in words what does not go together; `versions` gives each name's version and where that is said.

    A version that no row is about is no clash: new ones come out every week.
    """
    found = []
    for row in rows:
        has, place = versions.get(row.when.name, ("", ""))
        for need in row.needs if row.when.admits(has) else ():
            other, other_place = versions.get(need.name, ("", ""))
            if other and not need.admits(other):
                both = (
                    f"`{row.when.name}` {has} ({place}) needs `{need.text}`, `{need.name}` is {other} ({other_place})"
                )
                found.append(f"{both}: {row.place}, by {row.source}")
    return tuple(found)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _holds(version: tuple[int, ...], operator: str, bound: tuple[int, ...], is_prefix: bool) -> bool:
    if is_prefix:
        return version[: len(bound)] == bound
    length = max(len(version), len(bound))
    one, other = (each + (0,) * (length - len(each)) for each in (version, bound))
    return {"==": one == other, ">=": one >= other, "<": one < other}[operator]
