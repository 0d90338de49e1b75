"""The materials of actions: what their fetches bring."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from forge.core.action import Action
from forge.core.artifact import Derived
from forge.core.digest import Pin
from forge.core.graph import ActionGraph


@dataclass(frozen=True, slots=True, order=True)
class Fetched:
    """One material, and the action that brings it."""

    file: str
    """File name, of a model's file its path in the model."""
    pin: Pin
    """What its bytes must be."""
    name: str
    version: str
    source: str
    """Source id."""
    path: str
    """Where it lies below its source; empty where it has no place of its own there."""
    action: str
    """The action's name in its graph."""

    @property
    def artifact(self) -> Derived:
        """The file, before it is there."""
        return Derived(self.action, self.file)


def materials(graph: ActionGraph, names: Iterable[str]) -> list[Fetched]:
    """List the materials that some actions bring, sorted by file and digest."""
    found = [_fetched(name, graph.actions[name]) for name in names if graph.actions[name].is_fixed_output]
    return sorted(found, key=lambda each: (each.file, each.pin.hash, each.path))


def _fetched(name: str, action: Action) -> Fetched:
    params = json.loads(action.argv[3])
    assert action.fixed_output is not None
    return Fetched(
        action.outputs[0],
        action.fixed_output,
        params["name"],
        params["version"],
        params["source"],
        params["path"],
        name,
    )
