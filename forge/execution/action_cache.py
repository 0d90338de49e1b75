"""The action cache: an action's digest -> the digests of its outputs, as ActionResult messages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from forge.core import wire
from forge.core.digest import Digest
from forge.core.errors import HostError
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

    def get(self, key: Digest, *, verify: bool = False) -> dict[str, Content] | None:
        """Look an action up; None unless every byte of its outputs is here.

        To `verify` is to look at every file of its trees, as is done once the store has lost something.
        """
        message = _checked(self._path(key))
        if message is None:
            return None
        is_complete = self._is_sound if verify else self._is_complete
        try:
            outputs = decode_result(message)
            # Each of them, also after one that is not: the next look should find no more damage.
            faults = [path for path, content in outputs.items() if not is_complete(content)]
        except (KeyError, ValueError):
            return None
        return None if faults else outputs

    def put(self, key: Digest, outputs: Mapping[str, Content]) -> None:
        """Remember a result; its outputs must be in the store."""
        message = encode_result(outputs)
        target = self._path(key)
        with host_errors(target):
            target.parent.mkdir(exist_ok=True)
        self._store.scratch.write(target, hashlib.sha256(message).digest() + message)

    def forget_presence(self) -> None:
        """Look at the store's folders anew: blobs have gone since."""
        self._present = None

    def _is_sound(self, content: Content) -> bool:
        digests = [content.digest] if isinstance(content, FileContent) else [content.tree]
        if isinstance(content, TreeContent):
            digests += {file.digest for _, file in Tree.decode(self._store.read(content.tree)).files()}
        unsound = [digest for digest in digests if not self._store.vouches(digest)]  # each, as above
        return not unsound

    def _is_complete(self, content: Content) -> bool:
        if isinstance(content, FileContent):
            return self._store.contains(content.digest)
        if not self._store.contains(content.tree):
            return False
        closure = self._closure(content.tree)
        if self._present is None:
            self._present = self._store.present()
        hashes = {closure[at : at + 32] for at in range(0, len(closure), 32)}
        missing = hashes - self._present
        return not missing or self._all_written_since(missing - self._store.elsewhere(missing))

    def _all_written_since(self, missing: set[bytes]) -> bool:
        """Ask the disk about blobs that the first look did not see; this build may have made them."""
        for found in missing:
            name, home = found.hex(), self._store.home
            if not (home / "cas" / name[:2] / name).exists():
                return missing <= self._store.present()
        return True

    def _closure(self, tree: Digest) -> bytes:
        """List the hashes of a tree's files, from a note beside the store where there is one."""
        note = self._store.home / "closures" / tree.hash
        known = _checked(note)
        if known is not None:
            return known
        files = {entry.digest.hash for _, entry in Tree.decode(self._store.read(tree)).files()}
        data = b"".join(bytes.fromhex(each) for each in sorted(files))
        with suppress(HostError):
            self._store.scratch.write(note, hashlib.sha256(data).digest() + data)
        return data

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


def _checked(file: Path) -> bytes | None:
    """Read what stands behind a checksum; None when it is not there or damaged."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    return data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else None


__all__ = ["ActionCache", "decode_result", "encode_result"]
