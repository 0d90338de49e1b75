"""The closure of Debian packages over their dependencies.

Not a solver: Debian's suites are consistent by themselves, so that the first choice nearly always stands. Bounds
on versions are gathered as they are met; when one of them rules out a choice already made, the closure is made
again with all bounds known. Conflicts are not looked at: nothing is configured, files are only unpacked.

What cannot depend on the order of the request is done first: packages that have no alternative. Only then are
alternatives and virtual packages settled, one at a time in sorted order, each by what is already there.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from forge.core.errors import Fault, MaterialError
from forge.packages.index_debian import Archive, Group, Package, Relation, parse_groups, provides

_Bounds = Mapping[str, frozenset[Relation]]


def resolve(wanted: Iterable[str], archive: Archive, *, exclude: Iterable[str] = ()) -> tuple[Package, ...]:
    """Close `wanted` over Pre-Depends and Depends, sorted by name.

    What `exclude` names is left out, with what only it needs. A wanted package may carry a bound, `libc6 (= 2.36-9)`
    or `libc6=2.36-9`, and may be virtual.
    """
    groups = tuple(sorted({_parse_wanted(each) for each in wanted}))
    left_out = frozenset(exclude)
    bounds: _Bounds = {}
    while True:
        closure = _Closure(archive, left_out, bounds)
        closure.close(groups)
        if closure.bounds == bounds:
            break
        bounds = closure.bounds  # grows with each round, so that it ends
    if closure.missing:
        faults = [Fault(text, hint=closure.hint) for text in sorted(closure.missing)]
        raise MaterialError(faults[0], *faults[1:])
    return tuple(package for _, package in sorted(closure.chosen.items()))


class _Closure:
    """One round: the packages chosen under the bounds of earlier rounds, and the bounds met on the way."""

    def __init__(self, archive: Archive, exclude: frozenset[str], bounds: _Bounds) -> None:
        self.chosen: dict[str, Package] = {}
        self.bounds: dict[str, frozenset[Relation]] = dict(bounds)
        self.missing: set[str] = set()
        self.hint = f"Looked in the suites [{', '.join(archive.suites)}]"
        self._archive, self._exclude, self._known = archive, exclude, bounds
        self._todo: list[str] = []
        self._open: dict[Group, str] = {}
        """Groups to be settled, and who asks."""

    def close(self, wanted: Iterable[Group]) -> None:
        for group in wanted:
            self._require(group, "the request")
        while self._todo or self._open:
            if self._todo:
                self._choose(heapq.heappop(self._todo))
            else:
                group = min(self._open)
                self._settle(group, self._open.pop(group))

    def _choose(self, name: str) -> None:
        if name in self.chosen:
            return
        package = self._archive.find(name, tuple(self._known.get(name, ())))
        if package is None:
            wanted = ", ".join(str(each) for each in sorted(self.bounds.get(name, ())))
            self.missing.add(f"No version of package `{name}` fits all of [{wanted}]")
            return
        self.chosen[name] = package
        for group in package.depends:
            self._require(group, name)

    def _require(self, group: Group, who: str) -> None:
        first = group[0]
        if len(group) == 1 and first.name in self._exclude:
            return
        if len(group) == 1 and self._archive.find(first.name, group):
            self._take(first)
        else:
            self._open.setdefault(group, who)

    def _take(self, relation: Relation) -> None:
        if relation.operator:
            self.bounds[relation.name] = self.bounds.get(relation.name, frozenset()) | {relation}
        heapq.heappush(self._todo, relation.name)

    def _settle(self, group: Group, who: str) -> None:
        if any(self._is_met(each) for each in group):
            return
        for each in group:
            if each.name in self._exclude:
                return  # the first choice is left out, and nothing takes its place
            if self._archive.find(each.name, (each, *self._known.get(each.name, ()))):
                return self._take(each)
            for provider in self._archive.providers(each):
                if provider.name not in self._exclude:
                    self._take(Relation(provider.name))
                return
        self.missing.add(f"No package is or provides `{' | '.join(map(str, group))}`, which {who} needs")

    def _is_met(self, wanted: Relation) -> bool:
        package = self.chosen.get(wanted.name)
        if package is not None and wanted.admits(package.version):
            return True
        return any(provides(each, wanted) for each in self.chosen.values())


def _parse_wanted(text: str) -> Group:
    name, equals, version = text.partition("=")
    if equals and "(" not in name:
        text = f"{name} (= {version})"
    groups = tuple(parse_groups(text))
    if len(groups) != 1:
        raise MaterialError(f"`{text}` does not name a Debian package")
    return groups[0]
