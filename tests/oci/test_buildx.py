"""The tool `buildx`: the image that the tool `image` makes, by another assembler."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from forge.core.blob import BlobStore
from forge.core.errors import ActionFailed
from forge.core.image_build import Layout
from forge.core.tool import Content, FileContent, Json, ToolRequest, TreeContent
from forge.core.tree import File, Tree
from forge.oci import buildx, image
from forge.oci.flatten import flatten
from forge.oci.summary import summarize
from forge.oci.template import render
from tests.fakes.image_builder import FakeImageBuilder
from tests.fakes.store import MemoryStore
from tests.oci.sample import PARAMS, base, make_layer

TEMPLATE = Path(__file__).parents[2] / "rules/templates/image.Dockerfile"
GOLDEN = """\
# Written by forge. Every layer comes from forge's store, as the named context that a stage begins with.
FROM layers AS image
USER 65532:65532
EXPOSE 3000/tcp
VOLUME ["/tmp"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/python3", "-m", "forge_runtime"]
"""
STAGES = """\
# Written by forge. Every layer comes from forge's store, as the named context that a stage begins with.
FROM layer-0 AS stage-0
FROM layer-1 AS stage-1
FROM stage-0 AS image
COPY --link --from=stage-1 / /
USER 65532:65532
EXPOSE 3000/tcp
VOLUME ["/tmp"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/python3", "-m", "forge_runtime"]
"""


def requests(store: MemoryStore, **params: Json) -> tuple[ToolRequest, ToolRequest]:
    """Ask for one image of both assemblers."""
    weights = {"weights.bin": File(store.put(bytes(range(256)) * 40))}
    layers = [make_layer(store, base(store)), make_layer(store, weights, prefix="models", compression="none")]
    inputs: dict[str, Content] = {}
    for number, one in enumerate(layers):
        inputs[f"layer.{number}"], inputs[f"descriptor.{number}"] = one["layer"], one["descriptor"]
    known: dict[str, Json] = {
        **PARAMS,
        "history": ["base", "weights"],
        "volumes": ["/tmp"],
        "recheck": False,
        "cmd": [],
    }
    stages = {name: value for name, value in params.items() if name == "stages"}
    plain: dict[str, Json] = {**known, **{name: value for name, value in params.items() if name != "stages"}}
    template = FileContent(store.put(TEMPLATE.read_bytes()))
    asked = ToolRequest({**plain, **stages}, {**inputs, "template": template}, store)
    return ToolRequest(plain, inputs, store), asked


def layout_of(made: Mapping[str, Content], store: MemoryStore) -> Tree:
    found = made["layout"]
    assert isinstance(found, TreeContent)
    return Tree.decode(store.read(found.tree))


def said(made: Mapping[str, Content], name: str, store: MemoryStore) -> str:
    found = made[name]
    assert isinstance(found, FileContent)
    return store.read(found.digest).decode()


def config_of(layout: Tree, store: BlobStore) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.read(summarize(layout, store).config))
    return {key: value for key, value in found.items() if key not in ("created", "history")}


def test_both_assemblers_make_the_same_image_but_for_its_history() -> None:
    store = MemoryStore()
    plain, asked = requests(store, labels={"a": "b\nUSER 0", "c": "$(id) {{x}} ${y}"})
    embedded = layout_of(image.assemble(plain), store)
    made = buildx.assemble(FakeImageBuilder(store), asked)
    built = layout_of(made, store)
    first, second = summarize(embedded, store), summarize(built, store)

    assert [layer.digest for layer in first.layers] == [layer.digest for layer in second.layers]
    assert config_of(embedded, store) == config_of(built, store)
    assert flatten(embedded, store).root == flatten(built, store).root
    assert (first.annotations, first.ref) == (second.annotations, second.ref)
    assert json.loads(said(made, "digest", store))["manifest"] == second.manifest.oci


def test_the_dockerfile_is_the_golden_one() -> None:
    store = MemoryStore()
    made = buildx.assemble(FakeImageBuilder(store), requests(store)[1])

    assert GOLDEN == said(made, "dockerfile", store)


def test_a_command_is_the_embedded_one_s_too() -> None:
    store = MemoryStore()
    plain, asked = requests(store, cmd=["serve"])
    embedded = layout_of(image.assemble(plain), store)
    built = layout_of(buildx.assemble(FakeImageBuilder(store), asked), store)

    assert config_of(embedded, store) == config_of(built, store)


def test_a_stage_a_layer_is_to_be_had() -> None:
    store = MemoryStore()
    builder = FakeImageBuilder(store)
    buildx.assemble(builder, requests(store, stages=True)[1])
    (build,) = builder.builds

    assert STAGES == build.dockerfile.decode()
    assert list(build.contexts) == ["layer-0", "layer-1"]
    assert build.rewrite


def test_one_call_says_all() -> None:
    store = MemoryStore()
    builder = FakeImageBuilder(store)
    buildx.assemble(builder, requests(store, created="2026-01-31T12:00:00Z")[1])
    (build,) = builder.builds
    context = build.contexts["layers"]

    assert isinstance(context, Layout)
    assert ("tiny_gpt2-cpu_llm_trf", ("linux/amd64",), 1769860800) == (build.name, build.platforms, build.epoch)
    assert (build.rewrite, build.network, build.context.entries) == (False, False, {})
    assert dict(build.annotations)["org.opencontainers.image.title"] == "tiny_gpt2"


def test_a_builder_with_ideas_of_its_own_is_refused() -> None:
    store = MemoryStore()
    builder = FakeImageBuilder(store)
    builder.settings = {"Env": ["PATH=/evil"]}

    with pytest.raises(ActionFailed, match="buildx made `config`"):
        buildx.assemble(builder, requests(store)[1])


def test_a_builder_that_writes_layers_anew_is_refused() -> None:
    store = MemoryStore()
    builder = FakeImageBuilder(store)
    builder.dropped = 1

    with pytest.raises(ActionFailed, match=r"made 1 layers of 2[\s\S]*wrote the layers anew"):
        buildx.assemble(builder, requests(store)[1])


@pytest.mark.parametrize("user", ["0\nRUN id", "$(id)", "{{ 1 }}", "a b", "a\\", "#"])
def test_i05_a_value_that_could_end_its_line_is_refused(user: str) -> None:
    store = MemoryStore()
    builder = FakeImageBuilder(store)

    with pytest.raises(ActionFailed, match="cannot be a word of a Dockerfile"):
        buildx.assemble(builder, requests(store, user=user)[1])
    assert builder.builds == []


@pytest.mark.parametrize("word", ["a\nRUN id", 'a"b', "$HOME", "{{ 1 }}", "\\", "a]"])
def test_i05_words_of_an_entry_point_are_json(word: str) -> None:
    store = MemoryStore()
    builder = FakeImageBuilder(store)
    buildx.assemble(builder, requests(store, entrypoint=["/x", word])[1])
    lines = builder.builds[0].dockerfile.decode().splitlines()

    assert len(lines) == len(GOLDEN.splitlines())
    assert json.loads(lines[-1].removeprefix("ENTRYPOINT ")) == ["/x", word]


@pytest.mark.parametrize("template", ["{{ nothing }}", "{% if %}", "{{ ().__class__.__bases__ }}"])
def test_i05_a_template_that_does_not_work_out_is_an_error(template: str) -> None:
    with pytest.raises(ActionFailed, match="template does not work out"):
        render(template, {})
