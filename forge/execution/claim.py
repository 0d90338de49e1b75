"""Claims: of the processes that want the same action, one runs it and the others wait for its result.

A claim is a lock of the kernel, so that it ends with its process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from forge.core.errors import Interrupted
from forge.execution.home import host_errors

_PAUSE = 0.1
"""Seconds between looks at a claim that another process has: nobody wakes who waits for a lock and for Ctrl-C."""


class Claims:
    """Claims below a folder, each a file that is there as long as it is held."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Wait for nobody any more."""
        self._stopped.set()

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Hold a claim, waiting for who has it; Interrupted when `stop` comes first."""
        path = self._folder / name
        with host_errors(path):
            self._folder.mkdir(exist_ok=True)
        while True:
            with host_errors(path):
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                if _locked(handle, path):
                    break
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
            if self._stopped.wait(_PAUSE):
                raise Interrupted("The build was stopped")
        try:
            yield
        finally:
            with suppress(OSError):
                os.unlink(path)
            os.close(handle)


def _locked(handle: int, path: Path) -> bool:
    """Lock a file; False where another process has it, or had it and took the file away."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False
