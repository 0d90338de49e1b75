"""The graph of actions that analysis comes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from forge.core.action import Action
from forge.core.artifact import Artifact, Derived
from forge.core.errors import Fault
from forge.core.label import Label
from forge.core.provider import Provider


@dataclass(frozen=True, slots=True)
class ActionGraph:
    """Actions by name, and what each target hands on."""

    actions: Mapping[str, Action]
    """By name, `//package:target#Mnemonic` with a number where one is not enough; dependencies first."""
    providers: Mapping[Label, Provider]
    skipped: Mapping[Label, Fault]
    """Targets that a wildcard matched but that cannot be built here, and why."""

    def dependencies(self, name: str) -> tuple[str, ...]:
        """Name the actions whose outputs an action takes, each once."""
        action = self.actions[name]
        found = [artifact.action for _, artifact in action.inputs if isinstance(artifact, Derived)]
        if isinstance(action.root, Derived):
            found.append(action.root.action)
        return tuple(dict.fromkeys(found))

    def reached(self, names: Iterable[str]) -> frozenset[str]:
        """Name the given actions and every one that needs one of them."""
        found = set(names)
        for name in self.actions:
            if name not in found and not found.isdisjoint(self.dependencies(name)):
                found.add(name)
        return frozenset(found)

    def closure(self, artifacts: Iterable[Artifact]) -> tuple[str, ...]:
        """Name every action that `artifacts` need, dependencies first."""
        wanted: set[str] = set()
        pending = [artifact.action for artifact in artifacts if isinstance(artifact, Derived)]
        while pending:
            name = pending.pop()
            if name not in wanted:
                wanted.add(name)
                pending.extend(self.dependencies(name))
        return tuple(name for name in self.actions if name in wanted)
