"""The tool `dockerfile`, and what a Dockerfile may take from elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from forge.core.errors import ActionFailed
from forge.core.image_build import ImageBuild, Layout
from forge.core.tool import Content, FileContent, Json, ToolRequest, TreeContent
from forge.core.tree import File, Tree
from forge.oci import dockerfile
from forge.oci.dockerfile_scan import faults_of
from forge.oci.summary import summarize_all
from tests.fakes.image_builder import FakeImageBuilder
from tests.fakes.store import MemoryStore
from tests.oci.sample import base, make_image, make_layer

PIN = f"debian@sha256:{'a' * 64}"


def found(text: str, **args: str) -> list[str]:
    return [f"{fault.place}: {fault.text}" for fault in faults_of(text, "D", contexts=["base"], args=args)]


@pytest.mark.parametrize(
    "text",
    [
        f"FROM {PIN}\n",
        f"FROM debian:12@sha256:{'a' * 64} AS x\nFROM x\n",
        "FROM scratch\n",
        "FROM base\n",
        "from BASE as Work\nFROM work\nCOPY --from=Work / /\nCOPY --from=0 / /\n",
        "# escape=`\nFROM base\nRUN a `\n FROM debian\n",
        "ARG B=base\nFROM ${B}\n",
        "ARG B\nFROM ${B:-base}\n",
        "FROM --platform=$BUILDPLATFORM base\n",
        "FROM base AS image-amd64\nFROM base AS image-arm64\nFROM image-${TARGETARCH}\n",
        "FROM base\nRUN <<EOF\nFROM debian:12\nEOF\nRUN true\n",
        "FROM base\nRUN echo \\\n# a comment\n  FROM debian\n",
        "FROM base\nRUN --mount=type=bind,from=base,target=/x true\n",
        "FROM base\nADD x https /x\n",
        f"FROM base\nADD --checksum=sha256:{'0' * 64} https://example.org/x /x\n",
        f"# syntax=docker/dockerfile@sha256:{'a' * 64}\nFROM base\n",
    ],
)
def test_what_is_pinned_or_one_s_own_is_taken(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM debian:12\n", "D:1: The image `debian:12` has no digest"),
        ("\n\nFROM base\nFROM \\\n  python\n", "D:4: The image `python` has no digest"),
        ("# A comment.\nFROM debian:12\n", "D:2: The image `debian:12` has no digest"),
        ("ARG V=12\nFROM debian:$V\n", "D:2: The image `debian:12` has no digest"),
        ("FROM $B\n", "D:1: The image `$B` has no digest"),
        ("FROM $TARGETARCH\n", "D:1: The image `$TARGETARCH` has no digest"),
        ("FROM other-$TARGETARCH\n", "D:1: The image `other-$TARGETARCH` has no digest"),
        ("FROM base\nCOPY --from=busybox /a /b\n", "D:2: The image `busybox` has no digest"),
        ("FROM base\nRUN --mount=type=bind,from=busybox true\n", "D:2: The image `busybox` has no digest"),
        ("FROM base\nRUN --network=host true\n", "D:2: `--network=host` takes a step out"),
        ("FROM base\nADD https://example.org/x /x\n", "D:2: `ADD https://example.org/x` downloads"),
        ("FROM base\nADD git@example.org:a/b /x\n", "D:2: `ADD git@example.org:a/b` downloads"),
        ("FROM base\nONBUILD COPY --from=busybox /a /b\n", "D:2: The image `busybox` has no digest"),
        ("# syntax=docker/dockerfile:1\nFROM base\n", "D:1: The syntax `docker/dockerfile:1` has no digest"),
        ("RUN true\n", "D:1: There is no `FROM`"),
    ],
)
def test_what_may_be_another_tomorrow_is_refused_where_it_stands(text: str, expected: str) -> None:
    (fault,) = found(text)

    assert fault.startswith(expected)


def test_an_argument_that_is_given_beats_its_default() -> None:
    assert found("ARG B=debian\nFROM $B\n", B="base") == []


def request(store: MemoryStore, text: str = "FROM base\n", **params: Json) -> ToolRequest:
    """Ask for an image of one's own over forge's for both architectures."""
    inputs: dict[str, Content] = {"dockerfile": FileContent(store.put(text.encode()))}
    for number, arch in enumerate(("amd64", "arm64")):
        tree = make_image(store, [make_layer(store, base(store))], architecture=arch)
        store.put(tree.encoded)
        inputs[f"images/base/{number}"] = TreeContent(tree.digest, tree.root)
    inputs["context/a/b.txt"] = FileContent(store.put(b"x"), executable=True)
    inputs["files/more/c"] = FileContent(store.put(b"y"))
    known: dict[str, Json] = {"architectures": ["amd64"], "created": "1970-01-01T00:00:00Z", "path": "pkg/D"}
    return ToolRequest({**known, "ref": "acme/x:y", **params}, inputs, store)


def built(store: MemoryStore, asked: ToolRequest) -> tuple[ImageBuild, dict[str, object], Tree]:
    builder = FakeImageBuilder(store)
    made = dockerfile.build(builder, asked)
    layout, digest = made["layout"], made["digest"]
    assert isinstance(layout, TreeContent) and isinstance(digest, FileContent)
    return builder.builds[0], json.loads(store.read(digest.digest)), Tree.decode(store.read(layout.tree))


def test_the_context_is_what_was_declared() -> None:
    store = MemoryStore()
    build, _, _ = built(store, request(store, args={"A": "1"}, secrets=["TOKEN"], target="x"))
    more = build.contexts["more"]

    assert isinstance(more, Tree)
    assert (list(build.context.entries), list(more.entries)) == (["a/b.txt"], ["c"])
    assert build.context.entries["a/b.txt"] == File(store.put(b"x"), executable=True)
    assert (build.args, build.secrets, build.target) == ((("A", "1"),), ("TOKEN",), "x")
    assert (build.rewrite, build.network) == (True, False)


def test_one_architecture_is_one_manifest() -> None:
    store = MemoryStore()
    build, digest, layout = built(store, request(store))
    (image,) = summarize_all(layout, store)

    assert (digest["manifest"], image.ref) == (image.manifest.oci, "acme/x:y")
    assert isinstance(build.contexts["base"], Layout)


def test_two_architectures_are_one_index() -> None:
    store = MemoryStore()
    build, digest, layout = built(store, request(store, architectures=["amd64", "arm64"]))
    images = summarize_all(layout, store)

    assert build.platforms == ("linux/amd64", "linux/arm64")
    assert [image.architecture for image in images] == ["amd64", "arm64"]
    assert digest["manifest"] not in [image.manifest.oci for image in images]


def test_a_named_image_that_is_for_another_machine_is_an_error() -> None:
    store = MemoryStore()
    asked = request(store, architectures=["arm64"])
    asked = replace(asked, inputs={name: each for name, each in asked.inputs.items() if name != "images/base/1"})

    with pytest.raises(ActionFailed, match=r"context `base` has no image for \[arm64\]"):
        dockerfile.build(FakeImageBuilder(store), asked)


def test_a_base_without_a_digest_is_refused_before_anything_runs() -> None:
    store = MemoryStore()
    builder = FakeImageBuilder(store)

    with pytest.raises(ActionFailed, match=r"pkg/D:1: The image `debian:12` has no digest[\s\S]*pkg/D:2"):
        dockerfile.build(builder, request(store, "FROM debian:12\nADD https://x.org/ /\n"))
    assert builder.builds == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"Env": ["A=https://me:hunter22@x.test/"]}, "`config.config.Env.0` looks as if it held a login"),
        ({"Labels": {"key": "-----BEGIN PRIVATE KEY-----"}}, "`config.config.Labels.key` looks as if it held a pr"),
    ],
)
def test_i01_a_secret_of_a_step_is_found(settings: dict[str, object], expected: str) -> None:
    store = MemoryStore()
    builder = FakeImageBuilder(store)
    builder.settings = settings

    with pytest.raises(ActionFailed, match=expected) as caught:
        dockerfile.build(builder, request(store))
    assert "hunter22" not in str(caught.value)


def test_i01_a_layer_of_a_step_is_looked_through_and_one_of_a_context_is_not() -> None:
    store = MemoryStore()
    asked = request(store, "FROM base\n")
    leaky = make_image(store, [make_layer(store, {"srv/.env": File(store.put(b"A=b"))})], history=["COPY . /srv"])
    made = replace(asked, inputs={**asked.inputs, "images/base/0": _layout(store, leaky)})
    dockerfile.build(FakeImageBuilder(store), made)

    class Copies(FakeImageBuilder):
        """Takes a layer from nowhere, as a step makes one."""

        def build(self, build: ImageBuild) -> Tree:
            return leaky

    with pytest.raises(ActionFailed, match=r"`srv/.env` is where secrets are kept"):
        dockerfile.build(Copies(store), asked)
    dockerfile.build(Copies(store), replace(asked, params={**asked.params, "not_secret": [".env"]}))


def _layout(store: MemoryStore, tree: Tree) -> TreeContent:
    store.put(tree.encoded)
    return TreeContent(tree.digest, tree.root)
