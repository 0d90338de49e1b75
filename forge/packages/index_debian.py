"""Debian's indexes: Release files and Packages files, as the Debian wiki's page DebianRepository/Format has them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from forge.core.digest import Digest
from forge.packages.version_debian import Operator, satisfies, version_key

_DIGEST_LINE = re.compile(r"(?m)^ ([0-9a-f]{64}) +(\d+) +(\S+)$")
_RELATION = re.compile(
    r"\s*(?P<name>[a-z0-9][a-z0-9+.-]*)(?::[a-z0-9-]+)?\s*(?:\((?P<operator><<|<=|=|>=|>>|<|>)\s*(?P<version>[^)\s]+)\s*\))?"
)
_PRIORITIES = ("required", "important", "standard", "optional", "extra")


@dataclass(frozen=True, slots=True, order=True)
class Relation:
    """One package that a field names, with the versions that will do."""

    name: str
    operator: Operator | Literal[""] = ""
    version: str = ""

    def admits(self, version: str) -> bool:
        """Say whether `version` will do."""
        return not self.operator or satisfies(version, self.operator, self.version)

    def __str__(self) -> str:
        return f"{self.name} ({self.operator} {self.version})" if self.operator else self.name


Group = tuple[Relation, ...]
"""Alternatives: one of them is enough."""


@dataclass(frozen=True, slots=True)
class Package:
    """A version of a package, as one suite offers it."""

    name: str
    version: str
    suite: str
    path: str
    digest: Digest
    depends: tuple[Group, ...]
    """Pre-Depends and Depends."""
    provides: tuple[Relation, ...]
    priority: int
    """0 is required, 4 is extra."""


class SuiteIndex:
    """The packages of one suite and architecture; stanzas are read only when asked for."""

    def __init__(self, suite: str, text: str, released: str = "") -> None:
        self.suite = suite
        self.released = released
        """Date of the Release file, which comes before the dates of later ones in sorted order."""
        self._stanzas: dict[str, list[str]] = {}
        self._providers: dict[str, set[str]] = {}
        for stanza in re.split(r"\n\n+", text):
            name = _field(stanza, "Package")
            if not name:
                continue
            self._stanzas.setdefault(name, []).append(stanza)
            for virtual in _relations(_field(stanza, "Provides")):
                self._providers.setdefault(virtual.name, set()).add(name)

    def packages(self, name: str) -> tuple[Package, ...]:
        """List the versions of `name`, newest first."""
        found = [_package(stanza, self.suite) for stanza in self._stanzas.get(name, ())]
        return tuple(sorted(found, key=lambda each: (version_key(each.version), each.path), reverse=True))

    def providers(self, virtual: str) -> frozenset[str]:
        """Name the packages of which some version provides `virtual`."""
        return frozenset(self._providers.get(virtual, ()))


class Archive:
    """Suites in the order of preference: an earlier suite's version is taken while it will do."""

    def __init__(self, indexes: Sequence[SuiteIndex], *, prefer: Mapping[str, str] | None = None) -> None:
        self.suites = tuple(each.suite for each in indexes)
        self._indexes, self._prefer = tuple(indexes), prefer or {}
        self._found: dict[str, tuple[Package, ...]] = {}

    def find(self, name: str, bounds: Sequence[Relation] = ()) -> Package | None:
        """Pick the version of `name` that all `bounds` admit: the preferred one, else the first suite's newest."""
        fitting = [each for each in self._packages(name) if all(bound.admits(each.version) for bound in bounds)]
        kept = (each for each in fitting if each.version == self._prefer.get(name))
        return next(kept, fitting[0] if fitting else None)

    def providers(self, wanted: Relation) -> tuple[Package, ...]:
        """List what provides a virtual package: what was preferred, then by priority, then by name."""
        names = {name for index in self._indexes for name in index.providers(wanted.name)}
        found = [each for name in names if (each := self.find(name)) and provides(each, wanted)]
        return tuple(sorted(found, key=lambda each: (each.name not in self._prefer, each.priority, each.name)))

    def _packages(self, name: str) -> tuple[Package, ...]:
        if name not in self._found:
            self._found[name] = tuple(each for index in self._indexes for each in index.packages(name))
        return self._found[name]


def provides(package: Package, wanted: Relation) -> bool:
    """Say whether `package` stands in for `wanted`; a bound needs a version in Provides (Policy section 7.5)."""
    return any(
        each.name == wanted.name and (not wanted.operator or (bool(each.version) and wanted.admits(each.version)))
        for each in package.provides
    )


def parse_release(text: str) -> Mapping[str, Digest]:
    """Read the SHA256 section of a Release file: digests by path below the suite."""
    _, found, section = text.partition("\nSHA256:")
    if not found:
        return {}
    body = re.match(r"[^\n]*\n((?: [^\n]*\n?)*)", section)
    lines = _DIGEST_LINE.findall(body.group(1) if body else "")
    return {path: Digest(sha256, int(size)) for sha256, size, path in lines}


def parse_groups(text: str) -> Iterator[Group]:
    """Read a dependency field: groups by `,`, alternatives by `|`."""
    for group in text.split(","):
        if alternatives := tuple(found for each in group.split("|") if (found := _relation(each))):
            yield alternatives


def _package(stanza: str, suite: str) -> Package:
    priority = _field(stanza, "Priority")
    return Package(
        name=_field(stanza, "Package"),
        version=_field(stanza, "Version"),
        suite=suite,
        path=_field(stanza, "Filename"),
        digest=Digest(_field(stanza, "SHA256"), int(_field(stanza, "Size"))),
        depends=(*parse_groups(_field(stanza, "Pre-Depends")), *parse_groups(_field(stanza, "Depends"))),
        provides=_relations(_field(stanza, "Provides")),
        priority=_PRIORITIES.index(priority) if priority in _PRIORITIES else len(_PRIORITIES),
    )


def _field(stanza: str, name: str) -> str:
    # Searched for and not split into a table: of 64,000 stanzas a closure reads a few dozen.
    begin = 0 if stanza.startswith(f"{name}:") else stanza.find(f"\n{name}:") + 1
    if not begin and not stanza.startswith(f"{name}:"):
        return ""
    begin += len(name) + 1
    end = stanza.find("\n", begin)
    while end != -1 and stanza[end + 1 : end + 2] in (" ", "\t"):
        end = stanza.find("\n", end + 1)
    return stanza[begin : end if end != -1 else None].strip()


def _relations(text: str) -> tuple[Relation, ...]:
    return tuple(found for each in text.split(",") if (found := _relation(each))) if text else ()


def _relation(text: str) -> Relation | None:
    match = _RELATION.match(text)
    if match is None:
        return None
    # `<` and `>` are the obsolete spellings of `<=` and `>=`.
    operator = {"<": "<=", ">": ">="}.get(match["operator"] or "", match["operator"] or "")
    return Relation(match["name"], cast(Operator, operator), match["version"] or "")
