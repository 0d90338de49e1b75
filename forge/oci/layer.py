"""The tool `layer`: trees and files become one layer of an image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, ToolRequest
from forge.core.tree import Entry, File, Symlink, Tree, merge, under
from forge.oci import document, gzip, mediatype, tar
from forge.oci.check import Check
from forge.oci.leak import check_entries
from forge.oci.validate import validate_layer

LAYER_VERSION: Final = f"1+{gzip.CODEC}"
"""Goes into keys. Count up when the same request would give other bytes; golden digests tell."""


@dataclass(frozen=True, slots=True)
class LayerDescriptor:
    """A layer as images refer to it."""

    media_type: str
    digest: Digest
    diff_id: str
    """Digest of the uncompressed tar in the specification's form."""

    def encode(self) -> bytes:
        """Write the tool's output `descriptor`."""
        size, digest = self.digest.size, self.digest.oci
        return document.encode({"mediaType": self.media_type, "digest": digest, "size": size, "diffId": self.diff_id})

    @classmethod
    def decode(cls, check: Check, encoded: bytes) -> LayerDescriptor | None:
        """Read what `encode` wrote; None when something is wrong with it."""
        value = check.document(encoded)
        media_type = check.text(value.get("mediaType"), "mediaType")
        digest = check.digest(value.get("digest"), check.number(value.get("size"), "size"), "digest")
        diff = check.digest(value.get("diffId"), 0, "diffId")
        return cls(media_type, digest, diff.oci) if digest and diff else None


def assemble(request: ToolRequest) -> Mapping[str, Content]:
    """Place the inputs and write them as one layer.

    Parameters: `place` (input's name -> path in the image: a tree lies below it, a file is it);
    `compression` (`gzip` or `none`); `not_secret`, where files are to be looked through for secrets: those that are
    none. Outputs: `layer` and `descriptor`.
    """
    check = Check("layer")
    check.known(request.params, ("place", "compression", "not_secret"))
    places = check.pairs(request.params.get("place"), "place")
    compression = check.text(request.params.get("compression", "gzip"), "compression")
    if compression not in ("gzip", "none"):
        check.fault(f"`compression` is `{compression}`, neither `gzip` nor `none`")
    for name in sorted(places.keys() ^ request.inputs.keys()):
        check.fault(f"`{name}` is not both an input and a key of `place`")
    check.finish(ActionFailed)
    excepted = check.texts(request.params.get("not_secret", []), "not_secret")
    check.finish(ActionFailed)
    entries = _place(request, places)
    _refuse(entries)
    if "not_secret" in request.params:
        check_entries(check, entries, request.store, excepted)
        check.finish(ActionFailed)
    pieces = list(tar.parts(entries))
    request.store.expect([piece for piece in pieces if isinstance(piece, Digest)])
    chunks = _counted(tar.stream(pieces, request.store), pieces, request)
    made = _gzip(chunks, request.store) if compression == "gzip" else _plain(chunks, pieces, request.store)
    validate_layer(made.media_type, made.digest, made.diff_id, request.store)
    return {"layer": FileContent(made.digest), "descriptor": FileContent(request.store.put(made.encode()))}


def _place(request: ToolRequest, places: Mapping[str, str]) -> Mapping[str, Entry]:
    layers = [_entries(content, places[name].strip("/"), request.store) for name, content in request.inputs.items()]
    try:
        return Tree.of(merge(layers)).entries
    except ValueError as error:
        raise ActionFailed(str(error), place="layer", hint="Place the inputs at other paths") from error


def _entries(content: Content, path: str, store: BlobStore) -> dict[str, Entry]:
    if isinstance(content, FileContent):
        return {path: File(content.digest, content.executable)}
    return under(path, Tree.decode(store.read(content.tree)).entries)


def _refuse(entries: Mapping[str, Entry]) -> None:
    check = Check("layer")
    for path, entry in entries.items():
        if any(part.startswith(".wh.") for part in path.split("/")):
            check.fault(f"`{path}` would be read as the deletion of a file", "Rename or leave out the file")
        if isinstance(entry, Symlink) and (not entry.target or "\0" in entry.target):
            check.fault(f"The link `{path}` leads nowhere")
    check.finish(ActionFailed)


def _counted(chunks: Iterable[bytes], pieces: Iterable[bytes | Digest], request: ToolRequest) -> Iterator[bytes]:
    total = sum(len(piece) if isinstance(piece, bytes) else piece.size for piece in pieces)
    done = told = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        if done - told >= gzip.MEMBER or done == total:
            request.progress(done, total)
            told = done


def _gzip(chunks: Iterable[bytes], store: BlobStore) -> LayerDescriptor:
    with store.writer() as writer:
        diff = gzip.compress(chunks, writer.write)
        return LayerDescriptor(mediatype.LAYER_GZIP, writer.commit(), diff.oci)


def _plain(chunks: Iterable[bytes], pieces: list[bytes | Digest], store: BlobStore) -> LayerDescriptor:
    hashed, size = hashlib.sha256(), 0
    for chunk in chunks:
        hashed.update(chunk)
        size += len(chunk)
    digest = Digest(hashed.hexdigest(), size)
    # A weights file is kept once: the blob is made of it whenever somebody reads the layer.
    store.put_recipe(digest, pieces)
    return LayerDescriptor(mediatype.LAYER, digest, digest.oci)
