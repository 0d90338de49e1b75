"""The OCI image layout: an image as a folder.

https://github.com/opencontainers/image-spec, image-layout.md
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.tree import Entry, File, Tree
from forge.oci import document
from forge.oci.check import Check
from forge.oci.manifest import Index

MARK: Final = "oci-layout"
"""The file that says that a folder is a layout."""
INDEX: Final = "index.json"
"""The file that names the images."""
VERSION: Final = document.encode({"imageLayoutVersion": "1.0.0"})
"""Content of `oci-layout`."""

_BLOBS: Final = "blobs/sha256/"


def blob_path(digest: Digest) -> str:
    """Say where a blob lies."""
    return _BLOBS + digest.hash


def compose(store: BlobStore, index: Index, blobs: Iterable[Digest]) -> Tree:
    """Make the layout; blobs are entries by digest, nothing is copied."""
    entries: dict[str, Entry] = {blob_path(digest): File(digest) for digest in blobs}
    entries[MARK] = File(store.put(VERSION))
    entries[INDEX] = File(store.put(index.encode()))
    return Tree.of(entries)


def blobs(check: Check, layout: Tree) -> dict[str, Digest]:
    """List a layout's blobs by hash; what does not belong there is a fault."""
    found: dict[str, Digest] = {}
    for path, entry in layout.entries.items():
        if path in (MARK, INDEX) and isinstance(entry, File):
            continue
        name = path.removeprefix(_BLOBS)
        if name == path or not isinstance(entry, File):
            check.fault(f"`{path}` has no place in a layout")
        elif name != entry.digest.hash:
            check.fault(f"`{path}` is another blob, {entry.digest.oci}")
        else:
            found[name] = entry.digest
    return found
