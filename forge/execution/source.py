"""Source files: hashed once, and again only when their signature has changed."""

from __future__ import annotations

import hashlib
import marshal
import os
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


class SourceCache:
    """Digests of source files by path and signature, kept between builds in one file."""

    def __init__(self, roots: Mapping[str, Path], note: Path) -> None:
        self._roots, self._note = roots, note
        self._lock = Lock()
        self._known: dict[str, tuple[int, int, int, int, str]] = {}
        self._changed = False
        with suppress(OSError, ValueError, EOFError, TypeError):
            self._known = marshal.loads(note.read_bytes())

    def path(self, source: Source) -> Path:
        """Name the file of a source."""
        return self._roots[source.root] / source.path

    def content(self, source: Source) -> FileContent:
        """Hash a source, or remember its hash; LoadError when it is gone."""
        path = str(self.path(source))
        try:
            found = os.stat(path)
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
        # mtime can be set to anything; ctime cannot, so an edit in the same tick shows there.
        if max(signature[:2]) < now - _RACY and size == signature[2]:
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
        except MaterialError as error:
            hint = "Something edits it during the build; nothing was cached, run the build again"
            raise MaterialError(f"`{source.path}` changed while it was being used", hint=hint) from error

    def save(self) -> None:
        """Write what was learnt."""
        if self._changed:
            temporary = self._note.with_name(f"{self._note.name}.{os.getpid()}")
            with suppress(OSError):
                temporary.write_bytes(marshal.dumps(self._known))
                os.replace(temporary, self._note)
