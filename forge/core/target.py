"""Targets as declared, and the graph of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from forge.core.artifact import Source
from forge.core.errors import LoadError
from forge.core.label import Label, TargetPattern, select
from forge.core.lock import Lock, LockRequest
from forge.core.platform import Platform, Toolchain


@dataclass(frozen=True, slots=True)
class Target:
    """A label, its rule, its attributes, its platform: data, no behaviour."""

    label: Label
    rule: str
    attrs: object
    """The rule's attributes, a frozen model."""
    platform: Platform | None
    """None for a target that all platforms share."""
    deps: Mapping[Label, tuple[Label, ...]]
    """Each label that the attributes name -> the targets that it means for this platform."""
    sources: tuple[Source, ...] = ()
    lock_requests: tuple[LockRequest, ...] = ()
    """The locks that its rule asks for."""
    locks: Mapping[str, Lock] = field(default_factory=dict)
    """Those of them that exist, by name."""
    folder: str = ""
    """Folder of the declaring file; its locks are in `locks` below it."""
    place: str = ""
    """`file:line` of its table."""
    tags: frozenset[str] = frozenset()
    generator: Label | None = None
    """The target that it is an instance of."""
    description: str = ""
    declared: Mapping[str, object] = field(default_factory=dict)
    """Its table after expansion, as TOML values."""

    def dependencies(self) -> tuple[Label, ...]:
        """List direct dependencies, sorted, each once."""
        return tuple(sorted({label for group in self.deps.values() for label in group}))


@dataclass(frozen=True, slots=True)
class TargetGraph:
    """Every target that was asked for, with all that they depend on."""

    targets: Mapping[Label, Target]
    generators: Mapping[Label, tuple[Label, ...]]
    """Target that was expanded -> its instances."""
    toolchains: Mapping[str, Toolchain]
    """By the name of the platform."""
    execution: Platform
    """Where actions run."""
    requested: tuple[Label, ...]
    """What the patterns came to, sorted."""
    outright: frozenset[Label]
    """Those of them that were named, not matched by a wildcard."""
    runtime: tuple[Source, ...] = ()
    """The files of the runtime that images carry."""

    def order(self) -> tuple[Label, ...]:
        """List all targets, dependencies first; LoadError with the path when they form a cycle."""
        done: dict[Label, None] = {}
        for label in sorted(self.targets):
            self._visit(label, done)
        return tuple(done)

    def _visit(self, start: Label, done: dict[Label, None]) -> None:
        stack: list[tuple[Label, list[Label]]] = [(start, list(self.targets[start].dependencies()))]
        path = {start: None}
        while stack:
            label, pending = stack[-1]
            if label in done:
                stack.pop()
                path.pop(label, None)
                continue
            if not pending:
                done[label] = None
                continue
            child = pending.pop(0)
            if child in path and child not in done:
                hint = "Take one of these dependencies away"
                raise LoadError(cycle_text([*path, child]), place=self.targets[child].place, hint=hint)
            if child not in done:
                path[child] = None
                stack.append((child, list(self.targets[child].dependencies())))


def cycle_text(path: Iterable[Label]) -> str:
    """Put a cycle in words: its first and last label are the same."""
    labels = list(path)
    start = labels.index(labels[-1])
    return "Targets depend on each other: " + " -> ".join(f"`{label}`" for label in labels[start:])


def requested_labels(
    patterns: Iterable[TargetPattern],
    targets: Iterable[Target],
    expand: Callable[[Label], tuple[Label, ...]],
    *,
    manual: bool = False,
) -> tuple[tuple[Label, ...], frozenset[Label]]:
    """Apply patterns: what they come to, and which of it was named outright.

    Wildcards skip targets with the tag `manual` unless told otherwise; a named generator means all of its instances.
    """
    table = {target.label: target for target in targets}
    chosen: set[Label] = set()
    outright: set[Label] = set()
    for pattern in patterns:
        if not pattern.is_wildcard:
            matched = set(expand(Label(pattern.package, pattern.name)))
        elif pattern.exclude:
            matched = {label for label in chosen if pattern.matches(label)}
        else:
            matched = {label for label in select([pattern], table) if manual or "manual" not in table[label].tags}
        if pattern.exclude:
            chosen -= matched
            outright -= matched
        else:
            chosen |= matched
            outright |= set() if pattern.is_wildcard else matched
    return tuple(sorted(chosen)), frozenset(outright)
