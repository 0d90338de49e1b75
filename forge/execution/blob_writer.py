"""A blob on its way into the store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.execution.home import host_error, host_errors


class LocalWriter:
    """Appends to a temporary file, and hashes as it does so."""

    def __init__(self, home: Path, keep: Callable[[str, Digest], None], handle: int, name: str) -> None:
        self._home, self._keep, self._name = home, keep, name
        self._file = os.fdopen(handle, "wb", buffering=0)
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, chunk: bytes | memoryview, /) -> int:
        """Append `chunk`; HostError when the disk is full."""
        try:
            view = memoryview(chunk).cast("B")
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise host_error(error, self._home) from error
        self._hash.update(chunk)
        self._size += len(chunk)
        return len(chunk)

    def commit(self, expected: Digest | None = None) -> Digest:
        """Make the bytes visible; MaterialError, and nothing kept, when they are not `expected`."""
        digest = Digest(self._hash.hexdigest(), self._size)
        if expected is not None and digest != expected:
            raise MaterialError(f"Wrong content: expected {expected}, got {digest}")
        with host_errors(self._home):
            self._file.close()
            self._keep(self._name, digest)
        self._name = ""
        return digest

    def close(self) -> None:
        """Drop what was not committed."""
        self._file.close()
        if self._name:
            with suppress(OSError):
                os.unlink(self._name)
