"""What the readers of archives share: safe names, limits, and the way into the store.

No archive is ever extracted to a disk: files go to the store by digest and names go into a Tree, so that
`..`, links out of the root and write-through-symlink have nothing to act on. They are refused all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from forge.core.blob import BlobStore
from forge.core.digest import Digest

MAX_BYTES = 16 << 30
"""Most bytes that one archive may unpack to."""
MAX_ENTRIES = 1_000_000
MAX_RATIO = 200
"""Most bytes out of one byte in, once more than `RATIO_FROM` came out; torch's libraries have 4."""
RATIO_FROM = 100 << 20
CHUNK = 1 << 20
_REPORT_EVERY = 4 << 20


class ArchiveError(ValueError):
    """An archive that is damaged, hostile, or of no kind that forge reads."""


class Readable(Protocol):
    """Anything with `read`."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes; none at the end."""


class Intake:
    """Takes an archive's files into the store and says how far it is."""

    def __init__(self, store: BlobStore, progress: Callable[[int, int], None], total: int) -> None:
        self._store, self._progress, self._total = store, progress, total
        self._done = self._reported = 0

    def advance(self, size: int) -> None:
        """Count `size` more bytes of the archive as done."""
        self._done += size
        if self._done - self._reported >= _REPORT_EVERY:
            self._reported = self._done
            self._progress(min(self._done, self._total), self._total)

    def keep(self, chunks: Iterable[bytes], size: int) -> Digest:
        """Store a file of `size` bytes; small ones in one piece, which spares a writer each."""
        if size <= CHUNK:
            return self._store.put(b"".join(chunks))
        with self._store.writer() as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit()


def safe_path(name: str) -> str:
    """Bring an archive's name for a file to the form that a Tree has, empty for the root itself."""
    if name.startswith("/"):
        raise ArchiveError(f"`{name}` is an absolute path")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ArchiveError(f"`{name}` leaves the archive")
    if "\0" in name or len(name) > 4096 or any(len(part.encode()) > 255 for part in parts):
        raise ArchiveError(f"`{name[:80]!r}` is no path")
    return "/".join(parts)


def check_ratio(packed: int, unpacked: int) -> None:
    """Refuse what grows beyond all measure."""
    if unpacked > MAX_BYTES:
        raise ArchiveError(f"Unpacks to more than {MAX_BYTES} bytes")
    if unpacked > RATIO_FROM and unpacked > packed * MAX_RATIO:
        raise ArchiveError(f"Unpacks to more than {MAX_RATIO} times its size")
