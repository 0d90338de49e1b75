"""Partial downloads: bytes that a broken connection or an ended run leaves behind, to go on from."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from forge.core.digest import Digest

_CHUNK = 1 << 20


class Partial:
    """What is there of one download; without a file it only counts."""

    def __init__(self, file: BinaryIO | None, path: Path | None) -> None:
        self._file, self._path = file, path
        self.length = file.seek(0, 2) if file else 0
        """Bytes that came so far."""

    @property
    def is_kept(self) -> bool:
        """Say whether the bytes can be read again."""
        return self._file is not None

    def append(self, chunk: bytes) -> None:
        """Add bytes that just came."""
        if self._file:
            self._file.write(chunk)
        self.length += len(chunk)

    def replay(self) -> Iterator[bytes]:
        """Yield from the first byte what earlier runs left."""
        if self._file:
            self._file.seek(0)
            while chunk := self._file.read(_CHUNK):
                yield chunk

    def clear(self) -> None:
        """Drop the bytes, to begin again."""
        if self._file:
            self._file.seek(0)
            self._file.truncate()
        self.length = 0

    def remove(self) -> None:
        """Drop the file: its bytes are in the store."""
        if self._path:
            self._path.unlink(missing_ok=True)


@contextmanager
def open_partial(folder: Path | None, digest: Digest) -> Iterator[Partial]:
    """Open the partial file of `digest`; one that another process is writing is left to it."""
    if folder is None:
        yield Partial(None, None)
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / digest.hash
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield Partial(None, None)
            return
        partial = Partial(file, path)
        try:
            yield partial
        finally:
            if not partial.length:
                partial.remove()
