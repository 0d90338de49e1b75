"""The action cache: an action's digest -> the digests of its outputs, as ActionResult messages."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from forge.core import wire
from forge.core.digest import Digest
from forge.core.tool import Content, FileContent, TreeContent
from forge.core.tree import Tree, decode_digest, encode_digest
from forge.execution.home import host_errors
from forge.execution.store import LocalStore


class ActionCache:
    """Results below a folder, each with a checksum; one that is torn or whose outputs are gone is a miss."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._folder = store.home / "ac"
        self._present: set[bytes] | None = None

    def get(self, key: Digest) -> dict[str, Content] | None:
        """Look an action up; None unless every byte of its outputs is here."""
        try:
            data = self._path(key).read_bytes()
        except OSError:
            return None
        checksum, message = data[:32], data[32:]
        if hashlib.sha256(message).digest() != checksum:
            return None
        try:
            outputs = decode_result(message)
            complete = all(self._is_complete(content) for content in outputs.values())
        except (KeyError, ValueError):
            return None
        return outputs if complete else None

    def put(self, key: Digest, outputs: Mapping[str, Content]) -> None:
        """Remember a result; its outputs must be in the store."""
        message = encode_result(outputs)
        target = self._path(key)
        with host_errors(target):
            target.parent.mkdir(exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._store.home / "tmp")
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(message).digest() + message)
            os.replace(name, target)

    def forget_presence(self) -> None:
        """Look at the store's folders anew: blobs have gone since."""
        self._present = None

    def _is_complete(self, content: Content) -> bool:
        if isinstance(content, FileContent):
            return self._has(content.digest)
        if not self._has(content.tree):
            return False
        closure = self._closure(content.tree)
        if self._present is None:
            self._present = self._store.present()
        hashes = {closure[at : at + 32] for at in range(0, len(closure), 32)}
        missing = hashes - self._present
        return not missing or self._all_written_since(missing)

    def _all_written_since(self, missing: set[bytes]) -> bool:
        """Ask the disk about blobs that the first look did not see; this build may have made them."""
        for found in missing:
            name, home = found.hex(), self._store.home
            if not (home / "cas" / name[:2] / name).exists() and not (home / "recipes" / name).exists():
                return False
        return True

    def _closure(self, tree: Digest) -> bytes:
        """List the hashes of a tree's files, from a note beside the store where there is one."""
        note = self._store.home / "closures" / tree.hash
        with suppress(OSError):
            data = note.read_bytes()
            if len(data) % 32 == 0:
                return data
        files = {entry.digest.hash for _, entry in Tree.decode(self._store.read(tree)).files()}
        data = b"".join(bytes.fromhex(each) for each in sorted(files))
        handle, name = tempfile.mkstemp(dir=self._store.home / "tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, note)
        return data

    def _has(self, digest: Digest) -> bool:
        return self._store.contains(digest)

    def _path(self, key: Digest) -> Path:
        return self._folder / key.hash[:2] / key.hash


def encode_result(outputs: Mapping[str, Content]) -> bytes:
    """Encode an ActionResult message (fields output_files 2, output_directories 3)."""
    out = bytearray()
    for path, content in sorted(outputs.items()):
        if isinstance(content, FileContent):
            node = wire.string(1, path) + wire.message(2, encode_digest(content.digest))
            out += wire.message(2, node + wire.integer(4, content.executable))
    for path, content in sorted(outputs.items()):
        if isinstance(content, TreeContent):
            node = wire.string(1, path) + wire.message(3, encode_digest(content.tree))
            out += wire.message(3, node + wire.message(5, encode_digest(content.root)))
    return bytes(out)


def decode_result(message: bytes) -> dict[str, Content]:
    """Read what `encode_result` wrote; ValueError when it is something else."""
    outputs: dict[str, Content] = {}
    for number, value in wire.fields(message):
        node = dict(wire.fields(wire.as_bytes(value))) if number in (2, 3) else {}
        if number == 2:
            digest = decode_digest(wire.as_bytes(node[2]))
            outputs[wire.as_text(node[1])] = FileContent(digest, bool(node.get(4, 0)))
        elif number == 3:
            tree, root = decode_digest(wire.as_bytes(node[3])), decode_digest(wire.as_bytes(node[5]))
            outputs[wire.as_text(node[1])] = TreeContent(tree, root)
    return outputs


__all__ = ["ActionCache", "decode_result", "encode_result"]
