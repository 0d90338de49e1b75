"""A target's specification: all that its actions are made of, as far as it is known before they run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from forge.cli.material import Fetched, materials
from forge.core import wire
from forge.core.action import Action, action_key
from forge.core.artifact import Artifact, Source
from forge.core.digest import Digest
from forge.core.graph import ActionGraph
from forge.core.label import Label
from forge.core.target import TargetGraph
from forge.core.tool import Content, FileContent, Json, TreeContent
from forge.core.tree import Directory
from forge.execution.action_cache import ActionCache
from forge.execution.source import SourceCache
from forge.execution.store import LocalStore

SCHEMA = 1
_UNKNOWN_KEY = "not known before its inputs are built"


@dataclass(frozen=True, slots=True)
class Step:
    """An action, with the content of its inputs where that is known."""

    name: str
    action: Action
    key: str
    """The action's key; of one that fetches the digest that it brings; empty where an input is not there yet."""
    inputs: tuple[tuple[str, Artifact, Content | None], ...]
    root: Content | None
    outputs: Mapping[str, Content]
    """Empty where it has not run."""


class Resolver:
    """Follows actions as a build would, and runs none of them."""

    def __init__(self, store: LocalStore, sources: SourceCache) -> None:
        self._store, self._sources, self._cache = store, sources, ActionCache(store)

    def resolve(self, graph: ActionGraph, names: Iterable[str]) -> list[Step]:
        """Resolve actions, which must come with their dependencies first."""
        done: dict[str, Step] = {}
        for name in names:
            done[name] = self._resolve(name, graph.actions[name], done)
        return list(done.values())

    def _resolve(self, name: str, action: Action, done: Mapping[str, Step]) -> Step:
        if (pin := action.fixed_output) is not None:
            digest = pin if isinstance(pin, Digest) else self._store.find(pin)
            outputs: Mapping[str, Content] = {action.outputs[0]: FileContent(digest)} if digest else {}
            return Step(name, action, str(pin), (), None, outputs)
        inputs = tuple((path, artifact, self._content(artifact, done)) for path, artifact in action.inputs)
        root = self._content(action.root, done) if action.root is not None else None
        key = self._key(action, inputs, root)
        found = self._cache.get(key) if key is not None else None
        known = found if found is not None and set(found) == set(action.outputs) else {}
        return Step(name, action, str(key or ""), inputs, root, known)

    def _content(self, artifact: Artifact, done: Mapping[str, Step]) -> Content | None:
        if isinstance(artifact, Source):
            return self._sources.content(artifact)
        return done[artifact.action].outputs.get(artifact.output)

    def _key(
        self, action: Action, inputs: tuple[tuple[str, Artifact, Content | None], ...], root: Content | None
    ) -> Digest | None:
        known = {path: content for path, _, content in inputs if content is not None}
        folder = self._folder(root) if isinstance(root, TreeContent) else None
        if len(known) < len(inputs) or (action.root is not None and folder is None):
            return None
        return action_key(action, known, folder).digest

    def _folder(self, tree: TreeContent) -> Directory | None:
        """Read a tree's root folder, the first field of its message."""
        try:
            message = self._store.read(tree.tree)
        except KeyError:
            return None
        return next(Directory.decode(wire.as_bytes(value)) for number, value in wire.fields(message) if number == 1)


def table(targets: TargetGraph, labels: Iterable[Label], graph: ActionGraph, steps: list[Step]) -> dict[str, Json]:
    """Write a specification as a table: the same declarations and contents give the same one on every machine."""
    brought = materials(graph, [step.name for step in steps])
    return {
        "schema": SCHEMA,
        "targets": [_target(targets, label) for label in labels],
        "materials": [_material(each) for each in brought],
        "actions": [_action(step) for step in steps if not step.action.is_fixed_output],
    }


def render_json(spec: Mapping[str, Json]) -> str:
    """Write the table as canonical JSON."""
    return json.dumps(spec, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def render_text(spec: Mapping[str, Json]) -> str:
    """Write the table a fact a line, for people and `diff`."""
    lines: list[str] = []
    for target in _tables(spec["targets"]):
        platform = f" for {target['platform']}" if target["platform"] else ""
        lines.append(f"target {target['label']}: {target['rule']}{platform}")
    for each in _tables(spec["materials"]):
        lines.append(f"material {each['file']}: {each['name']} {each['version']} of {each['source']}, {each['digest']}")
    for action in _tables(spec["actions"]):
        lines += ["", f"action {action['name']}", f"    key {action['key'] or _UNKNOWN_KEY}"]
        lines += [f"    argv {_quoted(word)}" for word in _list(action["argv"])]
        lines += [f"    env {name}={_quoted(value)}" for name, value in _pairs(action["env"])]
        lines += [f"    property {name}={_quoted(value)}" for name, value in _pairs(action["properties"])]
        lines.append(f"    timeout {action['timeout']}")
        lines += [f"    root {_entry(each)}" for each in _tables([action["root"]] if action["root"] else [])]
        lines += [f"    input {each['path']}: {_entry(each)}" for each in _tables(action["inputs"])]
        lines += [f"    output {each['path']}: {each['digest'] or 'not built'}" for each in _tables(action["outputs"])]
    return "\n".join(lines) + "\n"


def _target(targets: TargetGraph, label: Label) -> dict[str, Json]:
    target = targets.targets[label]
    return {"label": str(label), "rule": target.rule, "platform": target.platform.name if target.platform else None}


def _material(each: Fetched) -> dict[str, Json]:
    return {
        "name": each.name,
        "version": each.version,
        "file": each.file,
        "source": each.source,
        "digest": f"sha256:{each.pin.hash}",
    }


def _action(step: Step) -> dict[str, Json]:
    action = step.action
    root = {**_origin(action.root), "digest": _digest(step.root)} if action.root is not None else None
    return {
        "name": step.name,
        "key": step.key or None,
        "argv": list(action.argv),
        "env": dict(action.env),
        "properties": dict(action.properties),
        "timeout": action.timeout,
        "root": root,
        "inputs": [
            {"path": path, **_origin(artifact), "digest": _digest(content)} for path, artifact, content in step.inputs
        ],
        "outputs": [{"path": path, "digest": _digest(step.outputs.get(path))} for path in action.outputs],
    }


def _origin(artifact: Artifact) -> dict[str, Json]:
    if isinstance(artifact, Source):
        return {"from": f"{artifact.root}:{artifact.path}"}
    return {"from": f"{artifact.action} {artifact.output}"}


def _digest(content: Content | None) -> str | None:
    if content is None:
        return None
    if isinstance(content, TreeContent):
        return f"tree sha256:{content.root.hash}"
    return f"sha256:{content.digest.hash}{' executable' if content.executable else ''}"


def _entry(each: Mapping[str, Json]) -> str:
    return f"{each['digest'] or 'not built'}, {each['from']}"


def _quoted(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def _list(value: Json) -> list[Json]:
    assert isinstance(value, list)
    return value


def _tables(value: Json) -> list[dict[str, Json]]:
    return [each for each in _list(value) if isinstance(each, dict)]


def _pairs(value: Json) -> list[tuple[str, Json]]:
    assert isinstance(value, dict)
    return sorted(value.items())
