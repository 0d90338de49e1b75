"""The tool `index`: images of several architectures under one name, and what such an index consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, ToolRequest, TreeContent
from forge.core.tree import File, Tree
from forge.oci import document, layout, mediatype
from forge.oci.check import Check, ImageError
from forge.oci.manifest import Descriptor, Index, Machine
from forge.oci.reference import Reference
from forge.oci.summary import ImageSummary, summarize, summarize_all

INDEX_VERSION: Final = "1"
"""Goes into keys. Count up when the same request would give other bytes."""

PLATFORM: Final = "io.forge.platform"


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """Images of several machines under one name."""

    digest: Digest
    ref: str
    annotations: Mapping[str, str]
    images: tuple[ImageSummary, ...]


def assemble(request: ToolRequest) -> Mapping[str, Content]:
    """Put images under one index, in a layout; their blobs are named, nothing is copied.

    Inputs: `layout.N` of one image each, N from 0.
    Parameters: `platforms`, forge's name of the platform of each; `annotations` of the index; `ref`, its name.
    Outputs: `layout`, a tree, and `digest`, a small JSON.

    Layers are not read again: they were judged when their images were assembled.
    """
    check = Check("index")
    check.known(request.params, ("platforms", "annotations", "ref"))
    annotations = check.pairs(request.params.get("annotations", {}), "annotations")
    platforms = check.texts(request.params.get("platforms"), "platforms")
    ref = check.text(request.params.get("ref", ""), "ref")
    if ref and Reference.parse(ref) is None:
        check.fault(f"`ref` is `{ref}`, no name of an image", "Write name:tag in lower case")
    names = [f"layout.{number}" for number in range(len(platforms))]
    if not names or sorted(names) != sorted(request.inputs):
        check.fault(f"The inputs are [{', '.join(sorted(request.inputs))}] for {len(platforms)} platforms")
    check.finish(ActionFailed)
    described: list[Descriptor] = []
    blobs: dict[str, Digest] = {}
    for name, platform in zip(names, platforms, strict=True):
        content = request.inputs[name]
        assert isinstance(content, TreeContent)
        tree = Tree.decode(request.store.read(content.tree))
        image = summarize(tree, request.store)
        machine = Machine(image.architecture, image.os, image.variant)
        if other := next((each.machine for each in described if each.machine and each.machine.fits(machine)), None):
            check.fault(f"`{platform}` is for {machine.document()}, and another image for {other.document()}")
        described.append(Descriptor(mediatype.MANIFEST, image.manifest, machine, {PLATFORM: platform}))
        blobs |= layout.blobs(check, tree)
    check.finish(ActionFailed)
    digest = request.store.put(Index(tuple(described), annotations).encode())
    named = Descriptor(mediatype.INDEX, digest, annotations={mediatype.REF_NAME: ref} if ref else {})
    tree = layout.compose(request.store, Index((named,)), [digest, *blobs.values()])
    summarize_all(tree, request.store)
    request.store.put(tree.encoded)
    said = {"manifest": digest.oci, "size": digest.size, "manifests": [each.document() for each in described]}
    return {
        "layout": TreeContent(tree.digest, tree.root),
        "digest": FileContent(request.store.put(document.encode(said))),
    }


def summarize_index(tree: Tree, store: BlobStore) -> IndexSummary:
    """Read the one index of a layout, without reading layers; ImageError when there is none or one is at fault."""
    images = summarize_all(tree, store)
    check = Check("index")
    entry = tree.entries[layout.INDEX]
    assert isinstance(entry, File)
    named = Index.decode(check, store.read(entry.digest)).manifests
    if len(named) != 1 or named[0].media_type != mediatype.INDEX:
        raise ImageError("The layout holds no index of several images", place="index")
    annotations = Index.decode(check, store.read(named[0].digest)).annotations
    check.finish(ImageError)
    return IndexSummary(named[0].digest, named[0].annotations.get(mediatype.REF_NAME, ""), annotations, images)
