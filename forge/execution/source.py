"""Source files: hashed once, and again only when their signature has changed."""

from __future__ import annotations

import hashlib
import marshal
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

from forge.core.artifact import Source
from forge.core.digest import Digest
from forge.core.errors import LoadError, MaterialError
from forge.core.tool import FileContent
from forge.execution.store import LocalStore

_RACY = 20_000_000
"""Nanoseconds: a file changed this shortly before it was read may change again within one clock tick."""
_RACY_COARSE = 2_100_000_000
"""The same on a file system that keeps whole seconds."""


class SourceCache:
    """Digests of source files by path and signature, kept between builds in one file."""

    def __init__(self, roots: Mapping[str, Path], note: Path) -> None:
        self._roots, self._note = roots, note
        self._lock = Lock()
        self._known: dict[str, tuple[int, int, int, int, str]] = {}
        self._changed = False
        with suppress(OSError, ValueError, EOFError, TypeError):
            data = note.read_bytes()
            if hashlib.sha256(data[32:]).digest() == data[:32]:
                self._known = marshal.loads(data[32:])

    def path(self, source: Source) -> Path:
        """Name the file of a source."""
        return self._roots[source.root] / source.path

    def content(self, source: Source) -> FileContent:
        """Hash a source, or remember its hash; LoadError when it is gone."""
        path = str(self.path(source))
        try:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):
                raise LoadError(f"`{source.path}` is not a regular file", place=source.path)
            signature = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
            executable = bool(found.st_mode & 0o100)
            known = self._known.get(path)
            if known is not None and known[:4] == signature:
                return FileContent(Digest(known[4], signature[2]), executable)
            now = time.time_ns()
            with open(path, "rb") as file:
                hashed = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
        except OSError as error:
            raise LoadError(f"Cannot read `{source.path}`: {error.strerror}", place=source.path) from error
        # mtime can be set to anything, also to the future; ctime cannot, and every edit sets it.
        racy = _RACY if signature[1] % 10**9 else _RACY_COARSE
        if signature[1] < now - racy and size == signature[2]:
            with self._lock:
                self._known[path] = (*signature, hashed)
                self._changed = True
        return FileContent(Digest(hashed, size), executable)

    def ingest(self, source: Source, content: FileContent, store: LocalStore) -> None:
        """Put a source into the store; MaterialError when it changed since it was hashed."""
        if store.contains(content.digest):
            return
        try:
            store.put_file(self.path(source), content.digest)
        except (MaterialError, OSError) as error:
            hint = "Something edits it during the build; nothing was cached, run the build again"
            raise MaterialError(f"`{source.path}` changed while it was being used", hint=hint) from error

    def save(self) -> None:
        """Write what was learnt."""
        if self._changed:
            temporary = self._note.with_name(f"{self._note.name}.{os.getpid()}")
            with suppress(OSError):
                data = marshal.dumps(self._known)
                temporary.write_bytes(hashlib.sha256(data).digest() + data)
                os.replace(temporary, self._note)
