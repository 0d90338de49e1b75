"""Where an image comes from, read from the graph of actions that make it: SLSA provenance as an in-toto statement.

https://slsa.dev/spec/v1.0/provenance. There is no time, no machine and no user in it: the same build
is the same statement.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from forge import __version__
from forge.core.action import Action
from forge.core.artifact import Artifact, Source
from forge.core.digest import Digest, Pin
from forge.core.graph import ActionGraph
from forge.oci import document
from forge.oci.signature import STATEMENT_TYPE

PREDICATE: Final = "https://slsa.dev/provenance/v1"
BUILDER: Final = "urn:forge:builder"
BUILD_TYPE: Final = "urn:forge:build:1"


def statement(
    graph: ActionGraph, layout: Artifact, label: str, name: str, image: Digest, digest_of: Callable[[Source], Digest]
) -> bytes:
    """Say of an image which files it was made of; `digest_of` hashes a file that a person wrote."""
    actions = [graph.actions[each] for each in graph.closure([layout])]
    materials = [found for action in actions if (found := _fetched(action)) is not None]
    sources = {artifact for action in actions for _, artifact in action.inputs if isinstance(artifact, Source)}
    materials += [_material(f"{each.root}:{each.path}", digest_of(each)) for each in sorted(sources)]
    return document.encode(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": image.hash}}],
            "predicateType": PREDICATE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {"target": label},
                    "internalParameters": {"actions": len(actions)},
                    "resolvedDependencies": materials,
                },
                "runDetails": {"builder": {"id": BUILDER, "version": {"forge": __version__}}},
            },
        }
    )


def _fetched(action: Action) -> dict[str, object] | None:
    """Describe what a download brings; None for an action of another kind."""
    if action.fixed_output is None:
        return None
    source = json.loads(action.argv[3]).get("source", "") if action.tool == "fetch" else ""
    return _material(f"{source}:{action.outputs[0]}", action.fixed_output)


def _material(uri: str, pin: Pin) -> dict[str, object]:
    return {"uri": uri, "digest": {"sha256": pin.hash}}
