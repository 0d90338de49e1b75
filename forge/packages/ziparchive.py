"""Open a zip archive only when every reader must agree on what is in it.

A zip names each file twice, and readers differ on which name, size and entry they believe (CVE-2025-54368 and
its kin). So: local headers must say what the directory says, the entries must lie one after another from the
first byte to the directory with nothing between them, and the directory must end the file.
APPNOTE.TXT 6.3.10, sections 4.3.7 to 4.3.16
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from forge.packages.archive import CHUNK, MAX_ENTRIES, ArchiveError, check_ratio, safe_path

_LOCAL = struct.Struct("<4s5H3I2H")
_END = struct.Struct("<4s4H2IH")
_ENCRYPTED, _DESCRIPTOR = 0x1 | 0x40, 0x8
_IN_ZIP64 = 0xFFFFFFFF
_DAMAGED = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    struct.error,
    zlib.error,
)


class ZipArchive:
    """A zip archive that has been checked; `members` holds its files by name, no folders."""

    def __init__(self, stream: BinaryIO) -> None:
        try:
            self._zip = zipfile.ZipFile(stream)
            self.members = _checked(self._zip)
            _check_layout(stream, self._zip)
        except ArchiveError:
            raise
        except _DAMAGED as error:
            raise ArchiveError(f"Not a sound zip archive: {error}") from error

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a file's contents; ArchiveError when they are damaged."""
        try:
            with self._zip.open(self.members[name]) as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except _DAMAGED as error:
            raise ArchiveError(f"`{name}` is damaged: {error}") from error

    def read(self, name: str, limit: int = 64 << 20) -> bytes:
        """Read a file whole; ArchiveError when it is larger than `limit`."""
        if self.members[name].file_size > limit:
            raise ArchiveError(f"`{name}` is larger than {limit} bytes")
        return b"".join(self.chunks(name))


def is_executable(info: zipfile.ZipInfo) -> bool:
    """Read the Unix mode that zip tools leave in the external attributes."""
    return bool(info.external_attr >> 16 & 0o111)


def _checked(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    packed = unpacked = 0
    for info in archive.infolist():
        name = info.orig_filename
        # zipfile cuts a name at its first NUL.
        if safe_path(name) != name.removesuffix("/") or "\\" in name:
            raise ArchiveError(f"`{name!r}` is no plain path")
        if info.flag_bits & _ENCRYPTED:
            raise ArchiveError(f"`{name}` is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArchiveError(f"`{name}` is compressed in no known way")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFDIR if name.endswith("/") else stat.S_IFREG):
            raise ArchiveError(f"`{name}` is a link, a device or a pipe")
        if name.endswith("/") and info.file_size:
            raise ArchiveError(f"`{name}` has contents and is no file")
        if name in members or len(members) >= MAX_ENTRIES:
            raise ArchiveError(f"Two entries are called `{name}`" if name in members else "Holds too many entries")
        check_ratio(info.compress_size, info.file_size)
        packed, unpacked = packed + info.compress_size, unpacked + info.file_size
        check_ratio(packed, unpacked)
        members[name] = info
    return {name: info for name, info in members.items() if not name.endswith("/")}


def _check_layout(stream: BinaryIO, archive: zipfile.ZipFile) -> None:
    position = 0
    for info in sorted(archive.infolist(), key=lambda each: each.header_offset):
        if info.header_offset != position:
            raise ArchiveError(f"Something is hidden before `{info.filename}`, or it overlaps another")
        position = _end_of_entry(stream, info)
    if position != archive.start_dir:
        raise ArchiveError("Something is hidden before the directory")
    _check_end(stream, archive)


def _end_of_entry(stream: BinaryIO, info: zipfile.ZipInfo) -> int:
    stream.seek(info.header_offset)
    header = stream.read(_LOCAL.size)
    magic, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
    name = stream.read(name_length).decode("utf-8" if flags & 0x800 else "cp437")
    same = (magic, name, method) == (b"PK\3\4", info.orig_filename, info.compress_type)
    if not flags & _DESCRIPTOR:
        same = (
            same
            and crc == info.CRC
            and packed in (info.compress_size, _IN_ZIP64)
            and size in (info.file_size, _IN_ZIP64)
        )
    if not same or (flags ^ info.flag_bits) & (_ENCRYPTED | _DESCRIPTOR):
        raise ArchiveError(f"`{info.filename}` is called or measured otherwise in its own header")
    end: int = info.header_offset + _LOCAL.size + name_length + extra_length + info.compress_size
    return end + _descriptor_length(stream, end, info) if flags & _DESCRIPTOR else end


def _descriptor_length(stream: BinaryIO, start: int, info: zipfile.ZipInfo) -> int:
    """Tell the four shapes of a data descriptor apart: with and without magic, 32 and 64 bits."""
    stream.seek(start)
    found = stream.read(24)
    for magic in (b"PK\7\10", b""):
        for shape in ("<III", "<IQQ"):
            if "Q" not in shape and max(info.compress_size, info.file_size) > 0xFFFFFFFF:
                continue
            expected = magic + struct.pack(shape, info.CRC, info.compress_size, info.file_size)
            if found.startswith(expected):
                return len(expected)
    raise ArchiveError(f"`{info.filename}` is measured otherwise after its contents")


def _check_end(stream: BinaryIO, archive: zipfile.ZipFile) -> None:
    stream.seek(-_END.size - len(archive.comment), 2)
    magic, *_, comment_length = _END.unpack(stream.read(_END.size))
    if magic != b"PK\5\6" or comment_length != len(archive.comment):
        raise ArchiveError("Has data after its end")
