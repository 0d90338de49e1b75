"""Incremental equals clean: random graphs, random edits, and what ran compared with an oracle."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forge.core.artifact import Artifact, Derived, Source
from tests.execution.workshop import Workshop

FAST = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
KINDS = ("join", "count")
FORMS = ("out", "folder/")


@dataclass
class Node:
    """An action before it has a name: how it works, what it reads."""

    kind: str
    form: str
    sources: set[int]
    deps: set[int]
    salt: int = 0


@dataclass
class World:
    """A random workspace."""

    sources: list[int]
    nodes: list[Node] = field(default_factory=list)

    def declare(self, shop: Workshop) -> list[Artifact]:
        """Write it down."""
        shop.actions.clear()
        files = [shop.write(f"s{number}", f"text {text}") for number, text in enumerate(self.sources)]
        made: list[Artifact] = []
        for number, node in enumerate(self.nodes):
            inputs: list[Artifact] = [files[each] for each in sorted(node.sources)]
            inputs += [made[each] for each in sorted(node.deps)]
            words = [node.kind, f"n{number}", str(node.salt)]
            made.append(shop.action(f"n{number}", *inputs, argv=words, outputs=(node.form,)))
        return made

    def keys(self, outputs: dict[str, bytes]) -> dict[str, str]:
        """What each action does, from its declaration and its inputs' bytes: made without forge."""
        keys = {}
        for number, node in enumerate(self.nodes):
            text = repr((node.kind, node.form, number, node.salt))
            text += repr([(each, self.sources[each]) for each in sorted(node.sources)])
            text += repr([(each, outputs[f"n{each}"]) for each in sorted(node.deps)])
            keys[f"n{number}"] = hashlib.sha256(text.encode()).hexdigest()
        return keys


@st.composite
def worlds(draw: st.DrawFn) -> World:
    world = World(draw(st.lists(st.integers(0, 3), min_size=1, max_size=4)))
    for number in range(draw(st.integers(1, 7))):
        sources = draw(st.sets(st.integers(0, len(world.sources) - 1), max_size=2))
        deps = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        world.nodes.append(Node(draw(st.sampled_from(KINDS)), draw(st.sampled_from(FORMS)), sources, deps))
    return world


edits = st.tuples(st.sampled_from(["source", "salt", "touch", "drop dependency"]), st.integers(0, 9), st.integers(0, 3))


def apply(world: World, shop: Workshop, edit: tuple[str, int, int]) -> None:
    kind, where, value = edit
    node = world.nodes[where % len(world.nodes)]
    if kind == "source":
        world.sources[where % len(world.sources)] = value
    elif kind == "salt":
        node.salt = value
    elif kind == "drop dependency" and node.deps:
        node.deps.discard(sorted(node.deps)[value % len(node.deps)])
    else:
        os.utime(shop.root / f"s{where % len(world.sources)}")


def build(world: World, shop: Workshop) -> dict[str, bytes]:
    artifacts = world.declare(shop)
    run = shop.build(*artifacts, jobs=2)
    assert not run.failures
    return {art.action: shop.text(run, art) for art in artifacts if isinstance(art, Derived)}


def clean(world: World) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return build(world, Workshop(Path(folder)))


@FAST
@given(worlds(), st.lists(edits, min_size=1, max_size=5))
def test_incremental_equals_clean_and_runs_exactly_what_is_new(world: World, steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(Path(folder))
        outputs = build(world, shop)
        done = set(world.keys(outputs).values())
        for step in steps:
            apply(world, shop, step)
            outputs = build(world, shop)
            keys = world.keys(outputs)
            expected = {name for name, key in keys.items() if key not in done}

            assert expected == set(shop.ran)
            assert len(expected) == len(shop.ran)
            done |= set(keys.values())
        assert clean(world) == outputs


@FAST
@given(worlds(), st.lists(st.tuples(edits, st.integers(0, 99), st.integers(0, 2)), min_size=1, max_size=4))
def test_incremental_equals_clean_though_the_store_loses_blobs(
    world: World, steps: list[tuple[tuple[str, int, int], int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(Path(folder))
        outputs = build(world, shop)
        for edit, which, how in steps:
            blobs = sorted(path for part in ("cas", "ac", "closures") for path in (shop.home / part).glob("**/*"))
            files = [path for path in blobs if path.is_file()]
            damage(files[which % len(files)], how)
            apply(world, shop, edit)
            outputs = build(world, shop)
        assert clean(world) == outputs
        build(world, shop)
        assert [] == shop.ran


def damage(file: Path, how: int) -> None:
    if how == 0:
        file.unlink()
        return
    data = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(data[: len(data) // 2] if how == 1 else data[:-1] + b"\0")


def test_a_source_is_what_the_generator_writes() -> None:
    """The oracle speaks of numbers, forge of bytes: equal numbers must be equal bytes."""
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(Path(folder))
        World([1, 1], []).declare(shop)

        assert (shop.root / "s0").read_bytes() == (shop.root / "s1").read_bytes()
        assert Source("s0") == shop.write("s0", "text 1")
