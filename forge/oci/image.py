"""The tool `image`: layers become an image, in an OCI layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, ToolRequest, TreeContent
from forge.core.tree import Tree
from forge.oci import document, layout, mediatype
from forge.oci.base import Base
from forge.oci.check import Check
from forge.oci.config import PARAMS, ImageConfig
from forge.oci.layer import LayerDescriptor
from forge.oci.manifest import Descriptor, Index, Machine, Manifest
from forge.oci.reference import Reference
from forge.oci.validate import validate

IMAGE_VERSION: Final = "1"
"""Goes into keys. Count up when the same request would give other bytes; golden digests tell."""


def assemble(request: ToolRequest) -> Mapping[str, Content]:
    """Put layers together and validate what came out.

    Inputs: `layer.N` and `descriptor.N` from the tool `layer`, or `layers.N` from `model_layers`, N from 0, lowest
    layer first; `base`, the layout of the image that they lie over, if there is one.
    Parameters: those of `ImageConfig.read`; `annotations` of the manifest; `ref`, the image's name in the layout;
    `foreign`, how many of the lowest layers come from elsewhere and keep owners and modes of their own;
    `recheck` (true), whether layers are read again though the tool `layer` made them.
    Outputs: `layout`, a tree, and `digest`, a small JSON.
    """
    asked = read_request(request)
    config_digest = request.store.put(asked.config.encode([layer.diff_id for layer in asked.layers]))
    described = tuple(Descriptor(layer.media_type, layer.digest) for layer in asked.layers)
    manifest = Manifest(Descriptor(mediatype.CONFIG, config_digest), described, asked.annotations)
    digest = request.store.put(manifest.encode())
    named = Descriptor(mediatype.MANIFEST, digest, asked.config.machine, asked.names)
    blobs = [digest, config_digest, *(layer.digest for layer in asked.layers)]
    tree = layout.compose(request.store, Index((named,)), blobs)

    trusted = frozenset[Digest]() if asked.recheck else frozenset(layer.digest for layer in asked.layers)
    validate(tree, request.store, foreign=asked.foreign, trusted=trusted)
    request.store.put(tree.encoded)
    said = answer(request.store, digest, config_digest, asked.config.machine)
    return {"layout": TreeContent(tree.digest, tree.root), "digest": said}


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """What an assembler is asked for."""

    config: ImageConfig
    """Its history tells of each layer."""
    layers: tuple[LayerDescriptor, ...]
    annotations: Mapping[str, str]
    """Of the manifest."""
    ref: str
    foreign: frozenset[Digest]
    """Layers that come from elsewhere."""
    recheck: bool

    @property
    def names(self) -> dict[str, str]:
        """Annotations by which a layout says what the image is called."""
        return {mediatype.REF_NAME: self.ref} if self.ref else {}


def read_request(request: ToolRequest) -> ImageRequest:
    """Read parameters and layers; ActionFailed with every fault."""
    check = Check("image")
    check.known(request.params, (*PARAMS, "annotations", "ref", "foreign", "recheck"))
    config = ImageConfig.read(check, request.params)
    annotations = check.pairs(request.params.get("annotations", {}), "annotations")
    ref = check.text(request.params.get("ref", ""), "ref")
    if ref and Reference.parse(ref) is None:
        check.fault(f"`ref` is `{ref}`, no name of an image", "Write name:tag in lower case")
    foreign = check.number(request.params.get("foreign", 0), "foreign")
    recheck = check.boolean(request.params.get("recheck", True), "recheck")
    read = _read_layers(check, request)
    count = len({number for _, number in read})
    if len(config.history) != count:
        check.fault(f"`history` has {len(config.history)} entries for {count} inputs")
    check.finish(ActionFailed)
    layers = tuple(layer for layer, _ in read)
    config = replace(config, history=tuple(config.history[number] for _, number in read))
    base = _base(request)
    if base is not None:
        config = base.under(check, config)
        check.finish(ActionFailed)
        layers, foreign = (*base.layers, *layers), foreign + len(base.layers)
        config = replace(config, history=(*base.history, *config.history))
    return ImageRequest(
        config=config,
        layers=layers,
        annotations={mediatype.CREATED: config.created, **annotations},
        ref=ref,
        foreign=frozenset(layer.digest for layer in layers[:foreign]),
        recheck=recheck,
    )


def answer(store: BlobStore, manifest: Digest, config: Digest, machine: Machine) -> FileContent:
    """Write the output `digest`: JSON that names the image."""
    said = {"manifest": manifest.oci, "size": manifest.size, "config": config.oci, "platform": machine.document()}
    return FileContent(store.put(document.encode(said)))


def _base(request: ToolRequest) -> Base | None:
    given = request.inputs.get("base")
    if given is None:
        return None
    if not isinstance(given, TreeContent):
        raise ActionFailed("`base` must be a layout")
    return Base.read(Tree.decode(request.store.read(given.tree)), request.store)


def _read_layers(check: Check, request: ToolRequest) -> list[tuple[LayerDescriptor, int]]:
    """Read the layers with the number of the input that each comes from."""
    read: list[tuple[LayerDescriptor, int]] = []
    number = 0
    while f"layer.{number}" in request.inputs or f"layers.{number}" in request.inputs:
        place = check.at(f"layer {number}")
        for given, described in _pairs(place, request, number):
            layer = _read_layer(place, request.store, given, described)
            if layer:
                read.append((layer, number))
        number += 1
    names = {f"{kind}.{each}" for kind in ("layer", "descriptor", "layers") for each in range(number)}
    if not number or request.inputs.keys() - names - {"base"}:
        hint = "Give `layer.N` and `descriptor.N`, or `layers.N`, for N from 0, at least one"
        check.fault(f"The inputs are [{', '.join(sorted(request.inputs))}]", hint)
    return read


def _pairs(check: Check, request: ToolRequest, number: int) -> list[tuple[Content, Content]]:
    folder = request.inputs.get(f"layers.{number}")
    if folder is None:
        described = request.inputs.get(f"descriptor.{number}")
        if described is None:
            check.fault("The layer has no descriptor")
            return []
        return [(request.inputs[f"layer.{number}"], described)]
    if not isinstance(folder, TreeContent):
        check.fault("`layers.N` must be a folder")
        return []
    files = dict(Tree.decode(request.store.read(folder.tree)).files())
    stems = sorted({path.partition("/")[0] for path in files})
    return [
        (FileContent(files[f"{stem}/layer"].digest), FileContent(files[f"{stem}/descriptor"].digest)) for stem in stems
    ]


def _read_layer(check: Check, store: BlobStore, given: Content, described: Content) -> LayerDescriptor | None:
    if not isinstance(given, FileContent) or not isinstance(described, FileContent):
        check.fault("The layer or its descriptor is a folder")
        return None
    layer = LayerDescriptor.decode(check, store.read(described.digest))
    if layer and layer.digest != given.digest:
        check.fault(f"The descriptor is of {layer.digest.oci}, the layer is {given.digest.oci}")
    return layer
