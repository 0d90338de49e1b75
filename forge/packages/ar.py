"""The outer shell of a Debian package: members of an `ar` archive, read forwards.

deb(5), https://www.gnu.org/software/binutils: common format, names of at most 16 characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from forge.packages.archive import ArchiveError, Readable

_MAGIC = b"!<arch>\n"
_HEADER = 60


class Member:
    """One member; reads end where it ends."""

    def __init__(self, name: str, size: int, stream: Readable, advance: Callable[[int], None]) -> None:
        self.name, self.size = name, size
        self._stream, self._advance, self._left = stream, advance, size

    @property
    def consumed(self) -> int:
        """Bytes read so far."""
        return self.size - self._left

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes; ArchiveError when the file ends before the member does."""
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._stream.read(wanted) if wanted else b""
        if wanted and not data:
            raise ArchiveError(f"Cut short in `{self.name}`")
        self._left -= len(data)
        self._advance(len(data))
        return data


def members(stream: Readable, advance: Callable[[int], None]) -> Iterator[Member]:
    """Yield the members in order; what is left unread of one is skipped; `advance` learns what was read."""
    if stream.read(len(_MAGIC)) != _MAGIC:
        raise ArchiveError("Not an `ar` archive")
    while header := stream.read(_HEADER):
        member = _parse(header, stream, advance)
        yield member
        while member.read(1 << 16):
            pass
        if member.size % 2 and stream.read(1) not in (b"\n", b"\0", b""):
            raise ArchiveError(f"No padding after `{member.name}`")


def _parse(header: bytes, stream: Readable, advance: Callable[[int], None]) -> Member:
    size = header[48:58].rstrip(b" ")
    if len(header) != _HEADER or header[58:] != b"`\n" or not size.isdigit():
        raise ArchiveError("Damaged `ar` header")
    try:
        name = header[:16].rstrip(b" ").removesuffix(b"/").decode("ascii")
    except UnicodeDecodeError as error:
        raise ArchiveError("Damaged `ar` header") from error
    return Member(name, int(size), stream, advance)
