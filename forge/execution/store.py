"""The store: content by digest, in files.

A blob is written to a temporary file and renamed, so that it is there whole or not at all. Its
modification time is then set to a constant: whatever changes the file in place changes that, and the
next reader hashes it anew. So a hit costs one `stat`, a changed or torn blob is found before it is used,
and the store needs no index. https://bazel.build/remote/caching describes the same shape.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.execution.home import host_error, host_errors, prepare_home

STAMP = 946_684_800
"""Modification time of every file of the store, in seconds: 2000-01-01, as good as any."""

_CHUNK = 1 << 20


class MissingBlob(KeyError):
    """A blob is not here, or was not what its name says and has been put away."""

    def __init__(self, digest: Digest, *, corrupt: bool = False) -> None:
        super().__init__(str(digest))
        self.digest, self.corrupt = digest, corrupt


class LocalStore:
    """Blobs below a folder; safe for many processes at once, because nothing is ever changed in place."""

    def __init__(self, home: Path) -> None:
        prepare_home(home)
        self.home = home
        self._cas = str(home / "cas")
        self._shards: set[str] = set()
        self.lost: list[MissingBlob] = []
        """What was found missing or damaged, in order: some callers turn the error into one of their own."""

    def path(self, digest: Digest, *, executable: bool = False) -> Path:
        """Name the file that holds a blob; executables have a copy of their own, as links share modes."""
        name = digest.hash + (".x" if executable else "")
        return Path(f"{self._cas}/{digest.hash[:2]}/{name}")

    def contains(self, digest: Digest) -> bool:
        """Say whether it is here, and of the right size."""
        try:
            return os.stat(self.path(digest)).st_size == digest.size
        except OSError:
            return self._recipe(digest) is not None

    @contextmanager
    def writer(self) -> Iterator[LocalWriter]:
        """Open a writer; leaving the block without `commit` drops what was written."""
        with host_errors(self.home / "tmp"):
            handle, name = tempfile.mkstemp(dir=self.home / "tmp")
        writer = LocalWriter(self, handle, name)
        try:
            yield writer
        finally:
            writer.close()

    def put(self, data: bytes) -> Digest:
        """Keep `data`."""
        digest = Digest.of(data)
        sound = False
        with suppress(MissingBlob):
            sound = self._is_sound(digest)
        if not sound:
            with self.writer() as writer:
                writer.write(data)
                writer.commit(digest)
        return digest

    def put_file(self, path: Path | str, expected: Digest | None = None) -> Digest:
        """Keep a copy of a file; MaterialError when it is not `expected`."""
        with open(path, "rb") as source, self.writer() as writer:
            while chunk := source.read(_CHUNK):
                writer.write(chunk)
            return writer.commit(expected)

    def put_recipe(self, digest: Digest, parts: Sequence[bytes | Digest]) -> None:
        """Keep a blob as a concatenation of texts and other blobs."""
        rows = [{"digest": str(p)} if isinstance(p, Digest) else {"data": base64.b64encode(p).decode()} for p in parts]
        target = self.home / "recipes" / digest.hash
        with host_errors(target):
            handle, name = tempfile.mkstemp(dir=self.home / "tmp")
            with os.fdopen(handle, "w") as file:
                json.dump({"size": digest.size, "parts": rows}, file)
            os.replace(name, target)

    def open(self, digest: Digest) -> BinaryIO:
        """Open verified bytes for reading; MissingBlob when they are not here."""
        if self._is_sound(digest):
            return open(self.path(digest), "rb")
        parts = self._recipe(digest)
        if parts is None:
            raise self._missing(digest)
        return io.BufferedReader(_Concatenation(self, parts), _CHUNK)

    def read(self, digest: Digest) -> bytes:
        """Read a blob whole."""
        with self.open(digest) as file:
            return file.read()

    def link(self, digest: Digest, target: Path | str, *, executable: bool = False) -> None:
        """Make a blob appear as a file, without copying where the file system allows it."""
        source = self.sound_path(digest, executable=executable)
        with host_errors(Path(target)):
            try:
                os.link(source, target)
            except OSError:  # another device, or too many links to one file
                shutil.copyfile(source, target)
                os.chmod(target, 0o555 if executable else 0o444)
                os.utime(target, (STAMP, STAMP))

    def sound_path(self, digest: Digest, *, executable: bool = False) -> Path:
        """Name a verified file with the blob's bytes; MissingBlob when they are not here."""
        if not self._is_sound(digest):
            with self.open(digest) as source, self.writer() as writer:
                shutil.copyfileobj(source, writer, _CHUNK)
                writer.commit(digest)
        if not executable:
            return self.path(digest)
        copy = self.path(digest, executable=True)
        if not self._is_sound(digest, executable=True):
            with host_errors(copy):
                handle, name = tempfile.mkstemp(dir=self.home / "tmp")
                os.close(handle)
                shutil.copyfile(self.path(digest), name)
                _seal(name, copy, 0o555)
        return copy

    def verify(self, digest: Digest) -> None:
        """Make sure that a blob is here and sound; MissingBlob when it is not."""
        if not self._is_sound(digest):
            parts = self._recipe(digest)
            if parts is None:
                raise self._missing(digest)
            for part in parts:
                if isinstance(part, Digest):
                    self.verify(part)

    def present(self) -> set[bytes]:
        """List the hashes of all that is here, in binary: one look at the folders, for many questions."""
        found: set[bytes] = set()
        for shard in os.listdir(self._cas):
            found.update(bytes.fromhex(name) for name in os.listdir(f"{self._cas}/{shard}") if len(name) == 64)
        found.update(bytes.fromhex(name) for name in os.listdir(self.home / "recipes") if len(name) == 64)
        return found

    def keep(self, temporary: str, digest: Digest) -> None:
        """Give a finished temporary file its name."""
        target = self.path(digest)
        if digest.hash[:2] not in self._shards:
            target.parent.mkdir(exist_ok=True)
            self._shards.add(digest.hash[:2])
        _seal(temporary, target, 0o444)

    def _is_sound(self, digest: Digest, *, executable: bool = False) -> bool:
        path = self.path(digest, executable=executable)
        try:
            found = os.stat(path)
        except OSError:
            return False
        if found.st_size == digest.size and found.st_mtime_ns == STAMP * 10**9:
            return True
        if found.st_size == digest.size and _hash(path) == digest.hash:
            with suppress(OSError):
                os.utime(path, (STAMP, STAMP))
            return True
        self._quarantine(path, digest)
        return False

    def _quarantine(self, path: Path, digest: Digest) -> None:
        with suppress(FileNotFoundError):
            os.replace(path, self.home / "quarantine" / path.name)
        # Trees are links to the same files: whichever held this one is as wrong as it was.
        trash = tempfile.mkdtemp(dir=self.home / "tmp")
        with suppress(OSError):
            os.replace(self.home / "trees", f"{trash}/trees")
        (self.home / "trees").mkdir(exist_ok=True)
        raise self._missing(digest, corrupt=True)

    def _missing(self, digest: Digest, *, corrupt: bool = False) -> MissingBlob:
        error = MissingBlob(digest, corrupt=corrupt)
        self.lost.append(error)
        return error

    def _recipe(self, digest: Digest) -> list[bytes | Digest] | None:
        try:
            table = json.loads((self.home / "recipes" / digest.hash).read_bytes())
            if table["size"] != digest.size:
                return None
            rows = table["parts"]
            return [Digest.parse(row["digest"]) if "digest" in row else base64.b64decode(row["data"]) for row in rows]
        except (OSError, ValueError, KeyError, TypeError):
            return None


class LocalWriter:
    """A blob on its way into the store."""

    def __init__(self, store: LocalStore, handle: int, name: str) -> None:
        self._store, self._name = store, name
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
            raise host_error(error, self._store.home) from error
        self._hash.update(chunk)
        self._size += len(chunk)
        return len(chunk)

    def commit(self, expected: Digest | None = None) -> Digest:
        """Make the bytes visible; MaterialError, and nothing kept, when they are not `expected`."""
        digest = Digest(self._hash.hexdigest(), self._size)
        if expected is not None and digest != expected:
            raise MaterialError(f"Wrong content: expected {expected}, got {digest}")
        self._file.close()
        with host_errors(self._store.home):
            self._store.keep(self._name, digest)
        self._name = ""
        return digest

    def close(self) -> None:
        """Drop what was not committed."""
        self._file.close()
        if self._name:
            with suppress(OSError):
                os.unlink(self._name)


class _Concatenation(io.RawIOBase):
    """Reads the parts of a recipe one after another."""

    def __init__(self, store: LocalStore, parts: Sequence[bytes | Digest]) -> None:
        self._store, self._parts = store, list(parts)
        self._current: BinaryIO | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        while True:
            if self._current is None:
                if not self._parts:
                    return 0
                part = self._parts.pop(0)
                self._current = io.BytesIO(part) if isinstance(part, bytes) else self._store.open(part)
            data = self._current.read(len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
            self._current.close()
            self._current = None


def _seal(temporary: str, target: Path, mode: int) -> None:
    os.chmod(temporary, mode)
    os.utime(temporary, (STAMP, STAMP))
    os.replace(temporary, target)


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
