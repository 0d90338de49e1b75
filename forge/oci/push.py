"""Pushing: an image or index from a layout under a name in a registry.

Blobs first, several at once; then manifests by digest, an index after those that it names; last the tag. So a tag means
a whole image at every moment, and what the registry takes a document for is known before it has a name.
https://github.com/opencontainers/distribution-spec, "Push"
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, MutableMapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.image_name import ImageName
from forge.core.tree import File, Tree
from forge.net.connection import Unavailable
from forge.oci import layout, mediatype
from forge.oci.check import Check, ImageError
from forge.oci.manifest import Descriptor, Index
from forge.oci.registry import Registry
from forge.oci.summary import ImageSummary, summarize_all
from forge.oci.upload import DIGEST, Uploader

PARALLEL: Final = 4
"""Blobs on their way at once."""


@dataclass(slots=True)
class Tally:
    """Bytes of blobs and documents, by what became of them."""

    sent: int = 0
    mounted: int = 0
    there: int = 0

    def add(self, what: str, size: int) -> None:
        """Count some bytes."""
        setattr(self, what, getattr(self, what) + size)


@dataclass(frozen=True, slots=True)
class Content:
    """What a layout's one image or index consists of."""

    root: Descriptor
    images: tuple[ImageSummary, ...]
    documents: tuple[Descriptor, ...]
    """Manifests and indexes, each after those that it names."""
    blobs: tuple[Digest, ...]

    @classmethod
    def read(cls, tree: Tree, store: BlobStore) -> Content:
        """Read a layout; ImageError when it is at fault or names another number of images and indexes than one."""
        images = summarize_all(tree, store)
        check = Check("layout")
        entry = tree.entries[layout.INDEX]
        assert isinstance(entry, File)
        named = Index.decode(check, store.read(entry.digest)).manifests
        if len(named) != 1:
            check.fault(f"The layout names {len(named)} images, one is needed")
        check.finish(ImageError)
        documents: dict[Digest, Descriptor] = {}
        _collect(check, named[0], store, documents)
        check.finish(ImageError)
        blobs = [digest for image in images for digest in (image.config, *(layer.digest for layer in image.layers))]
        return cls(named[0], images, tuple(documents.values()), tuple(dict.fromkeys(blobs)))


@dataclass(slots=True)
class Pusher:
    """Pushes to one address of a registry."""

    registry: Registry
    uploader: Uploader
    store: BlobStore
    places: MutableMapping[str, str]
    """Repositories of this registry by the blobs that they have, as far as is known: where mounts come from."""
    tally: Tally = field(default_factory=Tally)
    _here: set[tuple[str, str]] = field(default_factory=set)
    """Repository and digest of what was found or brought by this very object."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def push(self, name: ImageName, content: Content) -> None:
        """Bring an image or index under a name; MaterialError, and the tag as it was, when that fails."""
        try:
            self.blobs(name.repository, content.blobs)
            for each in content.documents:
                self.document(name.repository, each.media_type, self.store.read(each.digest))
            root = content.root
            if self.uploader.named(name.repository, name.tag) != root.digest.oci:
                self._put(name.repository, name.tag, root.media_type, root.digest, self.store.read(root.digest))
        except Unavailable as error:
            raise MaterialError(f"Cannot push to `{name.tagged}` at {self.registry}: {error}") from error

    def blobs(self, repository: str, digests: Iterable[Digest]) -> None:
        """Bring blobs into a repository, each unless it is there."""
        with ThreadPoolExecutor(PARALLEL, "push") as pool:
            try:
                futures = [pool.submit(self._blob, repository, digest) for digest in digests]
                done, rest = wait(futures, return_when=FIRST_EXCEPTION)
                if rest:
                    self.uploader.stopped.set()
                    pool.shutdown(cancel_futures=True)
                errors = [error for future in done if (error := future.exception()) is not None]
                if errors:
                    raise errors[0]
            except BaseException:
                self.uploader.stopped.set()
                pool.shutdown(cancel_futures=True)
                raise

    def document(self, repository: str, media_type: str, data: bytes) -> bool:
        """Bring a manifest or index by digest, unless it is there; whether the registry lists what refers to others.

        The second is known only of what was brought, and is False elsewhere.
        """
        digest = Digest.of(data)
        if (repository, digest.oci) in self._here:
            return False
        found = self.uploader.named(repository, digest.oci)
        if found is not None and found in ("", digest.oci):
            self._note(repository, digest, "there")
            return False
        lists = self._put(repository, digest.oci, media_type, digest, data)
        self._note(repository, digest, "sent")
        return lists

    def tagged(self, repository: str, tag: str, media_type: str, data: bytes) -> None:
        """Put a manifest or index under a tag."""
        digest = Digest.of(data)
        self._put(repository, tag, media_type, digest, data)
        self.tally.add("sent", digest.size)

    def _put(self, repository: str, reference: str, media_type: str, digest: Digest, data: bytes) -> bool:
        path = f"{repository}/manifests/{reference}"
        headers = self.uploader.ask("PUT", path, {"Content-Type": media_type}, data).headers
        found = headers.get(DIGEST, "") or self.registry.read(repository, reference).digest.oci
        if found != digest.oci:
            raise Unavailable(f"Takes {digest.oci} for {found}")
        return bool(headers.get("OCI-Subject"))

    def _blob(self, repository: str, digest: Digest) -> None:
        if (repository, digest.oci) in self._here:
            return
        if self.uploader.has_blob(repository, digest):
            self._note(repository, digest, "there")
            return
        origin = self.places.get(digest.oci, "")
        what = self.uploader.send(
            repository, digest, lambda: self.store.open(digest), origin if origin != repository else ""
        )
        self._note(repository, digest, what)

    def _note(self, repository: str, digest: Digest, what: str) -> None:
        with self._lock:
            self.tally.add(what, digest.size)
            self._here.add((repository, digest.oci))
            self.places[digest.oci] = repository


def _collect(check: Check, one: Descriptor, store: BlobStore, found: dict[Digest, Descriptor]) -> None:
    """Note what an index names before the index itself; `summarize_all` has judged how deep that goes."""
    if one.media_type in mediatype.INDEXES and one.digest not in found:
        for inner in Index.decode(check, store.read(one.digest)).manifests:
            _collect(check, inner, store, found)
    found.setdefault(one.digest, one)
