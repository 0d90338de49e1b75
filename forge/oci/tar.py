"""Deterministic tar archives: the same entries are the same bytes on every machine.

POSIX ustar headers, preceded by a PAX header only where ustar cannot hold a value: names that are long
or not ASCII, files of 8 GiB and more. Entries are sorted by path, parents are always there, owners
are 0 without names. Times are 0 and not SOURCE_DATE_EPOCH: content that did not change must not become
another layer because a date did; the date stands in the config's `created` alone.
https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
"""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.tree import Entry, File, Folder, Symlink

CHUNK: Final = 1 << 20
"""Bytes read at once."""

Placed = Entry | bytes
"""What stands at a path; bytes are a file whose content is given outright."""

_BLOCK: Final = 512
_SIZE_MAX: Final = 0o77777777777
_STICKY: Final = frozenset({"tmp", "var/tmp"})
"""Folders in which any user writes, and deletes only what is theirs."""

_HEADER = struct.Struct("100s8s8s8s12s12s8ss100s8s32s32s8s8s155s12x")
_ZERO: Final = b"0000000\0"
_EPOCH: Final = b"00000000000\0"


def parts(entries: Mapping[str, Placed]) -> Iterator[bytes | Digest]:
    """Write an archive as literal bytes and, between them, the blobs that stand in it as they are."""
    literal = bytearray()
    for path, entry in _ordered(entries):
        literal += _header(path, entry)
        if isinstance(entry, bytes):
            literal += entry + bytes(-len(entry) % _BLOCK)
        elif isinstance(entry, File) and entry.digest.size:
            yield bytes(literal)
            yield entry.digest
            literal = bytearray(-entry.digest.size % _BLOCK)
    yield bytes(literal + bytes(2 * _BLOCK))


def stream(pieces: Iterable[bytes | Digest], store: BlobStore) -> Iterator[bytes]:
    """Yield the bytes of `pieces` in order; MaterialError when a blob is not there or not whole."""
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            yield from _read(piece, store)


def _ordered(entries: Mapping[str, Placed]) -> list[tuple[str, Placed]]:
    found = dict(entries)
    for path in entries:
        parent = posixpath.dirname(path)
        while parent and parent not in found:
            found[parent] = Folder()
            parent = posixpath.dirname(parent)
    # Code points sort as their UTF-8 does, and a folder before what lies below it.
    return sorted(found.items(), key=lambda item: item[0])


def _header(path: str, entry: Placed) -> bytes:
    if isinstance(entry, Symlink):
        return _member(path, b"2", 0o777, target=entry.target)
    if isinstance(entry, Folder):
        return _member(f"{path}/", b"5", 0o1777 if path in _STICKY else 0o755)
    if isinstance(entry, File):
        return _member(path, b"0", 0o755 if entry.executable else 0o644, size=entry.digest.size)
    return _member(path, b"0", 0o644, size=len(entry))


def _member(name: str, kind: bytes, mode: int, *, size: int = 0, target: str = "") -> bytes:
    records = b""
    prefix, base = _split(name)
    if not base:
        records += _record("path", name)
        base = _shorten(name)
    link = target.encode()
    if len(link) > 100 or not target.isascii():
        records += _record("linkpath", target)
        link = _shorten(target)
    if size > _SIZE_MAX:
        records += _record("size", str(size))
    block = _block(base, kind, mode, 0 if size > _SIZE_MAX else size, link=link, prefix=prefix)
    if not records:
        return block
    extended = _block(b"././@PaxHeader", b"x", 0o644, len(records))
    return extended + records + bytes(-len(records) % _BLOCK) + block


def _split(name: str) -> tuple[bytes, bytes]:
    """Cut a name at a slash so that ustar's two fields hold it; an empty second part when they cannot."""
    if not name.isascii():
        return b"", b""
    encoded = name.encode()
    if len(encoded) <= 100:
        return b"", encoded
    cut = encoded.find(b"/", len(encoded) - 101, -1)
    return (encoded[:cut], encoded[cut + 1 :]) if 0 < cut <= 155 else (b"", b"")


def _shorten(name: str) -> bytes:
    """What a reader without PAX sees."""
    return name.encode("ascii", "replace")[:100]


def _record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def _block(name: bytes, kind: bytes, mode: int, size: int, *, link: bytes = b"", prefix: bytes = b"") -> bytes:
    numbers = (b"%07o\0" % mode, _ZERO, _ZERO, b"%011o\0" % size, _EPOCH, b" " * 8)
    block = _HEADER.pack(name, *numbers, kind, link, b"ustar\x0000", b"", b"", b"", b"", prefix)
    return b"%b%06o\0 %b" % (block[:148], sum(block), block[156:])


def _read(digest: Digest, store: BlobStore) -> Iterator[bytes]:
    try:
        source = store.open(digest)
    except KeyError:
        raise MaterialError(f"The store lacks {digest}") from None
    with source:
        left = digest.size
        while chunk := source.read(CHUNK):
            left -= len(chunk)
            yield chunk
    if left:
        # The header is written by then; more or fewer bytes would shift every later entry.
        raise MaterialError(f"The store holds {digest.size - left} bytes for {digest}")
