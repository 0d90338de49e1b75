"""A process's own folder for what is unfinished: gone when it ends, or when the next one starts.

The folder is locked for as long as its process lives. A lock, unlike a process id, is released by
`kill -9` and by a power cut, means the same in every container that shares the disk, and is never reused.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path

from forge.execution.home import host_errors

_LOCK = ".lock"
_GRACE = 3600
"""Seconds: what nobody has locked, but is younger, may be on its way to be locked."""


class Scratch:
    """A folder below `parent`, made when it is first needed."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._guard = threading.Lock()
        self._folder: str | None = None

    @property
    def folder(self) -> str:
        """The folder; HostError when it cannot be made."""
        with self._guard:
            if self._folder is None:
                with host_errors(self._parent):
                    self._folder, handle = _make(self._parent)
                weakref.finalize(self, _drop, self._folder, handle)
                _sweep(self._parent)
            return self._folder

    def file(self) -> tuple[int, str]:
        """Make an empty file; its handle and name."""
        with host_errors(self._parent):
            return tempfile.mkstemp(dir=self.folder)

    def subfolder(self) -> Path:
        """Make an empty folder."""
        with host_errors(self._parent):
            return Path(tempfile.mkdtemp(dir=self.folder))

    def write(self, target: Path, data: bytes) -> None:
        """Give `target` new content, whole or not at all; HostError when that cannot be."""
        handle, name = self.file()
        try:
            with host_errors(target):
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                os.replace(name, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise


def remove(folder: Path | str) -> None:
    """Remove a folder in which an action may have taken permissions away; never follows a link."""
    shutil.rmtree(folder, ignore_errors=True)
    if not os.path.lexists(folder):
        return
    with suppress(OSError):
        os.chmod(folder, 0o700)
    for parent, names, _ in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            with suppress(OSError):
                if stat.S_ISDIR(os.lstat(path).st_mode):
                    os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _make(parent: Path) -> tuple[str, int]:
    while True:
        folder = tempfile.mkdtemp(dir=parent)
        handle = os.open(f"{folder}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # a file system without locks: then nothing is ever swept there
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(f"{folder}/{_LOCK}"):
            return folder, handle
        os.close(handle)  # swept by another process between the two calls


def _drop(folder: str, handle: int) -> None:
    remove(folder)
    os.close(handle)


def _sweep(parent: Path) -> None:
    """Remove what dead processes left."""
    for name in os.listdir(parent):
        path = f"{parent}/{name}"
        try:
            handle = os.open(f"{path}/{_LOCK}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            with suppress(OSError):
                if os.lstat(path).st_mtime < time.time() - _GRACE:
                    remove(path) if os.path.isdir(path) else os.unlink(path)
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(path)
        except OSError:
            pass  # its process lives
        finally:
            os.close(handle)
