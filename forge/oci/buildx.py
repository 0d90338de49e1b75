"""The tool `buildx`: layers become an image as in the tool `image`, assembled by `docker buildx build`.

The layers are handed over in an OCI layout, as the named context that the Dockerfile begins with, and BuildKit passes
them on as they are: the image has the very blobs that the embedded assembler would have put into it. What a Dockerfile
cannot say without a change (a working folder makes a layer, environment variables take PATH to the front, a label
holds no line break, a command is marked as escaped) stands in the layout's config; the Dockerfile says the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.errors import ActionFailed
from forge.core.image_build import ImageBuild, ImageBuilder, Layout
from forge.core.tool import Content, FileContent, Tool, ToolRequest, TreeContent
from forge.oci import document, layout, mediatype
from forge.oci.check import Check
from forge.oci.config import ImageConfig
from forge.oci.image import ImageRequest, answer, read_request
from forge.oci.layer import LayerDescriptor
from forge.oci.manifest import Descriptor, Index, Manifest
from forge.oci.summary import ImageSummary, summarize
from forge.oci.template import render
from forge.oci.validate import validate

BUILDX_VERSION: Final = "1"
"""Goes into keys, with the versions of buildx and BuildKit. Count up when the same request would give other bytes."""


def assembler(builder: ImageBuilder) -> Tool:
    """Make the tool; `builder` runs buildx."""
    return partial(assemble, builder)


def assemble(builder: ImageBuilder, request: ToolRequest) -> Mapping[str, Content]:
    """Put layers together by buildx, and see to it that the image is the one that was asked for.

    Inputs, parameters and outputs are those of the tool `image`. One more input, `template`, is the Dockerfile's
    template, one more parameter, `stages`, asks for a stage a layer (see `rules/templates/image.Dockerfile`), and one
    more output, `dockerfile`, is what was built.
    """
    template = request.inputs["template"]
    assert isinstance(template, FileContent)
    stages = request.params.get("stages") is True
    inputs = {name: content for name, content in request.inputs.items() if name != "template"}
    params = {name: value for name, value in request.params.items() if name != "stages"}
    asked = read_request(replace(request, inputs=inputs, params=params))
    names = [f"layer-{number}" for number in range(len(asked.layers))] if stages else []
    text = render(request.store.read(template.digest).decode(), {**_spoken(asked.config), "stages": names})
    build = ImageBuild(
        name=asked.ref.replace("/", "-").replace(":", "-"),
        dockerfile=text.encode(),
        platforms=(f"{asked.config.machine.os}/{asked.config.machine.architecture}",),
        epoch=int(datetime.fromisoformat(asked.config.created).timestamp()),
        contexts=_contexts(asked, request.store, names),
        annotations=tuple(sorted(asked.annotations.items())),
        rewrite=stages,
    )
    made = builder.build(build)
    found = summarize(made, request.store)
    _compare(asked, found, request.store, stages=stages)
    blobs = [found.manifest, found.config, *(layer.digest for layer in found.layers)]
    named = Descriptor(mediatype.MANIFEST, found.manifest, asked.config.machine, asked.names)
    tree = layout.compose(request.store, Index((named,)), blobs)
    own = frozenset(layer.digest for layer in asked.layers)
    trusted = own if not asked.recheck else frozenset[Digest]()
    foreign = frozenset(layer.digest for layer in found.layers) - own | asked.foreign
    validate(tree, request.store, foreign=foreign, trusted=trusted)
    request.store.put(tree.encoded)
    return {
        "layout": TreeContent(tree.digest, tree.root),
        "digest": answer(request.store, found.manifest, found.config, asked.config.machine),
        "dockerfile": FileContent(request.store.put(text.encode())),
    }


def _spoken(config: ImageConfig) -> dict[str, object]:
    """Take what the Dockerfile says."""
    return {
        "user": config.user,
        "ports": list(config.ports),
        "volumes": list(config.volumes),
        "stop_signal": config.stop_signal,
        # ENTRYPOINT drops the command that was there, and CMD marks a config as that of an escaped command line.
        "entrypoint": [] if config.cmd else list(config.entrypoint),
    }


def _contexts(asked: ImageRequest, store: BlobStore, names: list[str]) -> dict[str, Layout]:
    """Make the layouts that the Dockerfile's stages begin with: all layers in one, or one each."""
    entrypoint = asked.config.entrypoint if asked.config.cmd else ()
    config = replace(asked.config, user="", ports=(), volumes=(), stop_signal="", entrypoint=entrypoint)
    if not names:
        return {"layers": _layout(store, config, asked.layers)}
    return {
        name: _layout(store, replace(config, history=(config.history[number],)), (layer,))
        for number, (name, layer) in enumerate(zip(names, asked.layers, strict=True))
    }


def _layout(store: BlobStore, config: ImageConfig, layers: tuple[LayerDescriptor, ...]) -> Layout:
    encoded = store.put(config.encode([layer.diff_id for layer in layers]))
    described = tuple(Descriptor(layer.media_type, layer.digest) for layer in layers)
    manifest = store.put(Manifest(Descriptor(mediatype.CONFIG, encoded), described).encode())
    blobs = [manifest, encoded, *(layer.digest for layer in layers)]
    named = Descriptor(mediatype.MANIFEST, manifest, config.machine)
    return Layout(layout.compose(store, Index((named,)), blobs), manifest)


def _compare(asked: ImageRequest, found: ImageSummary, store: BlobStore, *, stages: bool) -> None:
    """Refuse an image that is not what the embedded assembler would have made, but for history and times."""
    check = Check("image")
    layers = [layer.diff_id for layer in asked.layers]
    expected = check.document(asked.config.encode(layers))
    config = check.document(store.read(found.config))
    for key in ("architecture", "os", "variant", "config", "rootfs"):
        if not (stages and key == "rootfs") and config.get(key) != expected.get(key):
            text = f"buildx made `{key}` {document.encode(config.get(key)).decode()}"
            check.fault(text, f"It was to be {document.encode(expected.get(key)).decode()}")
    if len(found.layers) != len(asked.layers):
        check.fault(f"buildx made {len(found.layers)} layers of {len(asked.layers)}")
    blobs = [(layer.media_type, layer.digest) for layer in asked.layers]
    if not stages and blobs != [(layer.media_type, layer.digest) for layer in found.layers]:
        check.fault("buildx wrote the layers anew", "Use a builder that keeps the blobs of an `oci-layout` context")
    check.finish(ActionFailed)
