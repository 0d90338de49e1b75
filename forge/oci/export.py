"""Layouts as archives that other tools load: written as a stream, the same bytes every time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import BinaryIO, Final

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.errors import UsageError
from forge.core.tree import Tree
from forge.oci import document, layout, mediatype, tar
from forge.oci.index import summarize_index
from forge.oci.manifest import Descriptor, Index, Machine
from forge.oci.reference import Reference
from forge.oci.summary import summarize

CONTAINERD_NAME: Final = "io.containerd.image.name"
"""Annotation from which containerd takes an image's full name."""


def export_oci(tree: Tree, store: BlobStore, out: BinaryIO) -> None:
    """Write a layout as a tar, what `oci-archive:` is to skopeo."""
    _write(tree.entries, store, out)


def export_docker(
    tree: Tree, store: BlobStore, out: BinaryIO, ref: str, *, without: Collection[Digest] = frozenset()
) -> None:
    """Write the one image of a layout as `docker save` does, to be loaded under the name `ref`.

    An engine that has the blobs `without` loads it without these, if its store is containerd's.

    Docker's classic image store reads manifest.json, its containerd store reads index.json and keeps the manifest as
    it is, so that the image has the same digest there.
    """
    name = Reference.parse(ref)
    if name is None:
        raise UsageError(f"`{ref}` is no name of an image", hint="Write name:tag in lower case")
    image = summarize(tree, store)
    machine = Machine(image.architecture, image.os, image.variant)
    annotations = {CONTAINERD_NAME: name.full, mediatype.REF_NAME: name.tag}
    index = Index((Descriptor(mediatype.MANIFEST, image.manifest, machine, annotations),))
    save = {
        "Config": layout.blob_path(image.config),
        "RepoTags": [name.familiar],
        "Layers": [layout.blob_path(layer.digest) for layer in image.layers],
    }
    own = {layout.INDEX: index.encode(), "manifest.json": document.encode([save])}
    left_out = {layout.blob_path(digest) for digest in without}
    kept = {path: entry for path, entry in tree.entries.items() if path not in left_out}
    _write({**kept, **own}, store, out)


def export_docker_index(tree: Tree, store: BlobStore, out: BinaryIO, ref: str) -> None:
    """Write the one index of a layout for `docker load`.

    Docker's containerd store takes the index under `ref` as it is. Its classic store knows no indexes and gets each
    image under a name of its own, `ref` with the architecture behind it.
    """
    name = Reference.parse(ref)
    if name is None:
        raise UsageError(f"`{ref}` is no name of an image", hint="Write name:tag in lower case")
    found = summarize_index(tree, store)
    annotations = {CONTAINERD_NAME: name.full, mediatype.REF_NAME: name.tag}
    index = Index((Descriptor(mediatype.INDEX, found.digest, annotations=annotations),))
    save = [
        {
            "Config": layout.blob_path(image.config),
            "RepoTags": [f"{name.familiar}-{image.architecture}"],
            "Layers": [layout.blob_path(layer.digest) for layer in image.layers],
        }
        for image in found.images
    ]
    own = {layout.INDEX: index.encode(), "manifest.json": document.encode(save)}
    _write({**tree.entries, **own}, store, out)


def _write(entries: Mapping[str, tar.Placed], store: BlobStore, out: BinaryIO) -> None:
    for chunk in tar.stream(tar.parts(entries), store):
        rest = memoryview(chunk)
        while rest:
            # An unbuffered pipe takes as much as fits.
            rest = rest[out.write(rest) :]
