"""Reading files and folders, and remembering which: what was read is what a later build must look at."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from forge.core.errors import LoadError

Signature = tuple[int, int, int, int]
"""Times of modification and of change in nanoseconds, size, inode."""


class Reader:
    """Reads, and keeps the signature of every file and folder that the outcome depends on."""

    def __init__(self) -> None:
        self.files: dict[str, Signature | None] = {}
        """Absolute path -> signature, or None where nothing was found."""
        self.folders: dict[str, int] = {}
        """Absolute path -> modification time in nanoseconds of each folder that was listed."""

    def read(self, path: Path) -> bytes | None:
        """Read a file; None where there is none."""
        self.files[str(path)] = signature(path)
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # to open a FIFO would be to wait for ever
                raise LoadError("Is not a regular file", place=str(path))
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LoadError(f"Cannot read: {error.strerror}", place=str(path)) from error

    def exists(self, path: Path) -> bool:
        """Say whether a regular file is there."""
        found = self.files[str(path)] = signature(path)
        return found is not None and path.is_file()

    def names(self, folder: Path) -> list[str]:
        """List a folder, sorted; nothing where there is none."""
        try:
            self.folders[str(folder)] = folder.stat().st_mtime_ns
            return sorted(os.listdir(folder))  # noqa: PTH208 - names are wanted, not paths
        except (FileNotFoundError, NotADirectoryError):
            self.folders[str(folder)] = -1
            return []
        except OSError as error:
            raise LoadError(f"Cannot list: {error.strerror}", place=str(folder)) from error

    def walk(self, folder: Path, relative: str = "") -> Iterator[str]:
        """Yield what is no folder below a folder, by relative path, hidden ones left out."""
        for name in self.names(folder / relative):
            if name.startswith(".") or name == "__pycache__":
                continue
            path = f"{relative}/{name}" if relative else name
            mode = (folder / path).lstat().st_mode
            if stat.S_ISDIR(mode):
                yield from self.walk(folder, path)
            else:
                yield path


def signature(path: Path | str) -> Signature | None:
    """Take a file's signature; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - paths come as text too
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
