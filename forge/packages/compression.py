"""Decompress the members of Debian packages, with a bound on memory and on growth."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Callable
from typing import IO, cast

from forge.packages import ar
from forge.packages.archive import ArchiveError, Readable, check_ratio

_XZ_MEMORY = 256 << 20
"""Preset 9 needs 65 MiB to decompress; a header may ask for 4 GiB."""
_ZSTD_WINDOW = 128 << 20
_CHUNK = 1 << 16


class Decompressed:
    """The plain bytes of a member called `….tar`, `….tar.gz`, `….tar.xz` or `….tar.zst`."""

    def __init__(self, member: ar.Member) -> None:
        self._member, self._unpacked = member, 0
        self._stream = _open(member)

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes; ArchiveError when they are damaged or far too many."""
        try:
            data = self._stream.read(size)
        except (lzma.LZMAError, zlib.error, EOFError, OSError) as error:
            raise ArchiveError(f"`{self._member.name}` is damaged: {error}") from error
        self._unpacked += len(data)
        check_ratio(self._member.consumed, self._unpacked)
        return data


class _Xz:
    def __init__(self, source: Readable) -> None:
        self._source = source
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def read(self, size: int, /) -> bytes:
        while not self._decoder.eof:
            packed = self._source.read(_CHUNK) if self._decoder.needs_input else b""
            if self._decoder.needs_input and not packed:
                raise EOFError("cut short")
            if data := self._decoder.decompress(packed, size):
                return data
        if self._decoder.unused_data or self._source.read(1):
            raise EOFError("data after its end")
        return b""


class _Zstd:
    def __init__(self, source: Readable) -> None:
        # Debian's own packages are xz; only Ubuntu's need this library.
        import zstandard

        self._error: type[Exception] = zstandard.ZstdError
        decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._stream = cast(Readable, decoder.stream_reader(cast(IO[bytes], source), read_across_frames=True))

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except self._error as error:
            raise EOFError(str(error)) from error


def _gzip(member: ar.Member) -> Readable:
    return cast(Readable, gzip.GzipFile(fileobj=cast(IO[bytes], member), mode="rb"))


_READERS: dict[str, Callable[[ar.Member], Readable]] = {
    "": lambda member: member,
    ".gz": _gzip,
    ".xz": _Xz,
    ".zst": _Zstd,
}


def _open(member: ar.Member) -> Readable:
    _, _, suffix = member.name.partition(".tar")
    reader = _READERS.get(suffix)
    if reader is None:
        raise ArchiveError(f"`{member.name}` is compressed in no known way")
    return reader(member)
