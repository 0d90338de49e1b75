"""What an image consists of, read from its layout."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.tree import File, Tree
from forge.oci import document, layout, mediatype
from forge.oci.check import Check, ImageError
from forge.oci.config import ConfigFacts
from forge.oci.manifest import Descriptor, Index, Manifest

DEPTH: Final = 2
"""Indexes below `index.json` that may lie in one another."""
LAYERS: Final = 125
"""Layers that Docker takes."""
IMAGES: Final = 100
"""Images in a layout; a small index could else have the same blobs read any number of times."""


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One layer, lowest first in its image."""

    digest: Digest
    media_type: str
    diff_id: str
    """Digest of the uncompressed tar in the specification's form."""
    created_by: str


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """One image for one machine."""

    manifest: Digest
    config: Digest
    architecture: str
    variant: str
    os: str
    ref: str
    """Its name in the layout, or empty."""
    layers: tuple[LayerSummary, ...]
    annotations: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes of all its blobs."""
        layers = {layer.digest for layer in self.layers}
        return self.manifest.size + self.config.size + sum(digest.size for digest in layers)


@dataclass(slots=True)
class Contents:
    """A layout's documents, each hashed and read; layers are only listed."""

    check: Check
    store: BlobStore
    blobs: Mapping[str, Digest]
    """The layout's blobs by hash."""
    images: list[ImageSummary] = field(default_factory=list)
    layers: set[Descriptor] = field(default_factory=set)
    """Those that are there."""
    referenced: set[str] = field(default_factory=set)
    """Hashes of blobs that something refers to."""
    visited: set[str] = field(default_factory=set)
    """Hashes of indexes and manifests that were read."""

    @classmethod
    def read(cls, check: Check, tree: Tree, store: BlobStore) -> Contents:
        """Read all that `index.json` leads to."""
        found = cls(check, store, layout.blobs(check.at("layout"), tree))
        mark = found._file(tree, layout.MARK)
        if mark is not None and check.at(layout.MARK).document(mark).get("imageLayoutVersion") != "1.0.0":
            check.at(layout.MARK).fault("`imageLayoutVersion` is not 1.0.0")
        index = found._file(tree, layout.INDEX)
        if index is not None:
            found._index(check.at(layout.INDEX), index, ())
        if not found.images and not check.faults:
            check.fault("The layout names no image")
        return found

    def _index(self, check: Check, encoded: bytes, above: tuple[str, ...]) -> None:
        for one in Index.decode(check, encoded).manifests:
            if one.digest.hash in above or (one.media_type in mediatype.INDEXES and len(above) >= DEPTH):
                check.fault(f"The index {one.digest.oci} lies in itself or more than {DEPTH} deep")
            elif one.digest.hash in self.visited:
                continue
            elif one.media_type in mediatype.MANIFESTS:
                self._manifest(check, one)
            elif one.media_type in mediatype.INDEXES:
                data = self._document(check, one)
                if data is not None:
                    self.visited.add(one.digest.hash)
                    self._index(check.at(f"index {one.digest.short}"), data, (*above, one.digest.hash))

    def _manifest(self, check: Check, descriptor: Descriptor) -> None:
        if len(self.images) >= IMAGES:
            check.fault(f"The layout holds more than {IMAGES} images")
            return
        self.visited.add(descriptor.digest.hash)
        encoded = self._document(check, descriptor)
        check = check.at(f"manifest {descriptor.digest.short}")
        manifest = Manifest.decode(check, encoded) if encoded is not None else None
        if manifest is None:
            return
        for layer in manifest.layers:
            if self._find(check, layer):
                self.layers.add(Descriptor(layer.media_type, layer.digest))
        data = self._document(check, manifest.config)
        if data is None:
            return
        facts = ConfigFacts.decode(check.at(f"config {manifest.config.digest.short}"), data)
        _check_agreement(check, descriptor, manifest, facts)
        self.images.append(_summarize(descriptor, manifest, facts))

    def _find(self, check: Check, descriptor: Descriptor) -> bool:
        self.referenced.add(descriptor.digest.hash)
        present = self.blobs.get(descriptor.digest.hash)
        if present is None:
            check.fault(f"The layout lacks {descriptor.digest.oci}")
        elif present.size != descriptor.digest.size:
            check.fault(f"{descriptor.digest.oci} has {present.size} bytes, not {descriptor.digest.size}")
        return present == descriptor.digest

    def _document(self, check: Check, descriptor: Descriptor) -> bytes | None:
        if not self._find(check, descriptor):
            return None
        return self._read(check, descriptor.digest)

    def _file(self, tree: Tree, path: str) -> bytes | None:
        entry = tree.entries.get(path)
        if not isinstance(entry, File):
            self.check.at("layout").fault(f"The layout lacks `{path}`")
            return None
        return self._read(self.check.at(path), entry.digest)

    def _read(self, check: Check, digest: Digest) -> bytes | None:
        if digest.size > document.LIMIT:
            check.fault(f"{digest.oci} has {digest.size} bytes, a document has at most {document.LIMIT}")
            return None
        try:
            with self.store.open(digest) as source:
                data = source.read(document.LIMIT + 1)
        except (KeyError, MaterialError, OSError) as error:
            check.fault(f"{digest.oci} cannot be read: {error}")
            return None
        if len(data) != digest.size or hashlib.sha256(data).hexdigest() != digest.hash:
            check.fault(f"The bytes of {digest.oci} are others")
            return None
        return data


def summarize(tree: Tree, store: BlobStore) -> ImageSummary:
    """Read the one image of a layout; ImageError when there is another number or a document is at fault."""
    return single(summarize_all(tree, store))


def summarize_all(tree: Tree, store: BlobStore) -> tuple[ImageSummary, ...]:
    """Read every image of a layout, in its order, without reading layers."""
    check = Check("image")
    contents = Contents.read(check, tree, store)
    check.finish(ImageError)
    return tuple(contents.images)


def single(images: tuple[ImageSummary, ...]) -> ImageSummary:
    """Take the only one; ImageError when there are several."""
    if len(images) != 1:
        raise ImageError(f"The layout holds {len(images)} images, one is needed", place="image")
    return images[0]


def _check_agreement(check: Check, named: Descriptor, manifest: Manifest, facts: ConfigFacts) -> None:
    if named.machine and not named.machine.fits(facts.machine):
        check.fault(f"The index says {named.machine.document()}, the config {facts.machine.document()}")
    if len(manifest.layers) != len(facts.diff_ids):
        check.fault(f"There are {len(manifest.layers)} layers and {len(facts.diff_ids)} diff ids")
    if facts.history is not None and len(facts.history) != len(facts.diff_ids):
        check.fault(f"The history tells of {len(facts.history)} layers, there are {len(facts.diff_ids)}")
    if len(manifest.layers) > LAYERS:
        check.fault(f"There are {len(manifest.layers)} layers, Docker takes {LAYERS}")


def _summarize(named: Descriptor, manifest: Manifest, facts: ConfigFacts) -> ImageSummary:
    history = facts.history or ("",) * len(manifest.layers)
    layers = zip(manifest.layers, facts.diff_ids, history, strict=False)
    return ImageSummary(
        manifest=named.digest,
        config=manifest.config.digest,
        architecture=facts.machine.architecture,
        variant=facts.machine.variant,
        os=facts.machine.os,
        ref=named.annotations.get(mediatype.REF_NAME, ""),
        layers=tuple(LayerSummary(one.digest, one.media_type, diff, text) for one, diff, text in layers),
        annotations=dict(manifest.annotations),
    )
