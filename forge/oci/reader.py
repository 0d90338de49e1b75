"""A layer's uncompressed bytes, read once, forward, and hashed on both sides of the compression."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final, cast

from forge.oci.mediatype import Compression

CHUNK: Final = 1 << 20
"""Most bytes in one piece; no header of a tar may have more."""
_PACKED: Final = 128 << 10
"""Compressed bytes read at once: what follows a gzip member is copied, so small members make large pieces dear."""


_MAX_RATIO: Final = 1100
"""Most bytes out of one byte in, once more than `_RATIO_FROM` came out: as much as gzip can, and zstd need not."""
_RATIO_FROM: Final = 1 << 30
_ZSTD_WINDOW: Final = 128 << 20


class Damaged(Exception):
    """A layer that cannot be decompressed; no error of tarfile's, which would make a fault of the archive of it."""


class LayerReader:
    """The part of a file's interface that `tarfile` uses in mode `r:`, without going back."""

    def __init__(self, blob: BinaryIO, compression: Compression) -> None:
        self._blob = blob
        pieces = {"none": self._raw, "gzip": self._inflate, "zstd": self._unzstd}
        self._pieces = pieces[compression]()
        self._grows = compression != "none"
        self._piece = memoryview(b"")
        self._start = 0
        self._at = 0
        self._blob_hash = hashlib.sha256()
        self._plain_hash = hashlib.sha256()
        self.last = b""
        """What the last `read` gave."""
        self.blob_size = 0
        """Bytes of the blob so far."""

    @property
    def blob_hash(self) -> str:
        """Hash of the blob as far as it was read."""
        return self._blob_hash.hexdigest()

    @property
    def plain_hash(self) -> str:
        """Hash of the uncompressed bytes as far as they were read."""
        return self._plain_hash.hexdigest()

    def tell(self) -> int:
        """Say where the next `read` begins."""
        return self._start + self._at

    def seek(self, position: int) -> int:
        """Go forward to `position`, or to the end; ReadError when it lies behind."""
        if position < self.tell():
            raise tarfile.ReadError("a header points back")
        while position > self._start + len(self._piece) and self._fill():
            pass
        self._at = min(position - self._start, len(self._piece))
        return self.tell()

    def read(self, size: int) -> bytes:
        """Read `size` bytes, or fewer at the end; ReadError when a header asks for too many."""
        if not 0 <= size <= CHUNK:
            raise tarfile.ReadError(f"a header of {size} bytes")
        found = bytes(self._piece[self._at : self._at + size])
        self._at += len(found)
        while len(found) < size and self._fill():
            more = bytes(self._piece[: size - len(found)])
            self._at = len(more)
            found += more
        self.last = found
        return found

    def drain_blob(self) -> None:
        """Hash the rest of a blob that cannot be decompressed."""
        for _ in self._raw():
            pass

    def _fill(self) -> bool:
        piece = next(self._pieces, b"")
        self._start += len(self._piece)
        self._piece = memoryview(piece)
        self._at = 0
        self._plain_hash.update(piece)
        plain = self._start + len(piece)
        if self._grows and plain > _RATIO_FROM and plain > self.blob_size * _MAX_RATIO:
            raise Damaged(f"it grows to more than {_MAX_RATIO} times its size")
        return bool(piece)

    def _raw(self, size: int = CHUNK) -> Iterator[bytes]:
        while chunk := self._blob.read(size):
            self._blob_hash.update(chunk)
            self.blob_size += len(chunk)
            yield chunk

    def _inflate(self) -> Iterator[bytes]:
        member = zlib.decompressobj(31)
        for chunk in self._raw(_PACKED):
            packed, more = chunk, True
            while packed or more:
                if member.eof:
                    if not packed:
                        break
                    member = zlib.decompressobj(31)
                try:
                    piece = member.decompress(packed, CHUNK)
                except zlib.error as error:
                    raise Damaged(str(error)) from None
                # With the output cut at CHUNK, some may remain inside though all input was taken.
                more = len(piece) == CHUNK
                packed = member.unused_data if member.eof else member.unconsumed_tail
                if piece:
                    yield piece
        if not member.eof:
            raise Damaged("the compressed data ends early")

    def _unzstd(self) -> Iterator[bytes]:
        import zstandard  # a compiled module that most images do not need

        decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        stream = decoder.stream_reader(cast("BinaryIO", _Packed(self._raw(_PACKED))), read_across_frames=True)
        try:
            while piece := stream.read(CHUNK):
                yield piece
        except zstandard.ZstdError as error:
            raise Damaged(str(error)) from None


class _Packed:
    """Pieces as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int) -> bytes:
        found = self._rest or next(self._pieces, b"")
        found, self._rest = found[:size], found[size:]
        return found


def read_members(reader: LayerReader) -> Iterator[tarfile.TarInfo]:
    """Yield a tar's headers in order; names that are not UTF-8 come with surrogates."""
    file = cast("BinaryIO", reader)
    with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
        while member := archive.next():
            # The archive keeps a list of them, which nobody needs and which grows without limit.
            archive.members.clear()  # type: ignore[attr-defined]
            yield member
