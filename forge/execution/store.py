"""The store: content by digest, in files.

A blob is written to a temporary file and renamed, so that it is there whole or not at all. Its
modification time is then set to a constant: whatever changes the file in place changes that, and the
next reader hashes it anew. So a hit costs one `stat`, a changed or torn blob is found before it is used,
and the store needs no index. There is no fsync: what a power cut leaves of a blob is shorter than its
digest says, and so found as well. https://bazel.build/remote/caching describes the same shape.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from forge.core.digest import Digest, Pin
from forge.core.errors import MaterialError
from forge.execution.home import host_error, host_errors, prepare_home
from forge.execution.recipe import Concatenation, Recipe
from forge.execution.scratch import Scratch

STAMP = 946_684_800
"""Modification time of every file of the store, in seconds: 2000-01-01, as good as any."""

_CHUNK = 1 << 20
_REPLACED = 8
"""How often a blob's file may be replaced by its like while it is being linked to."""
_UNLINKABLE = {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS}
"""What `link` says where a copy will do: another device, too many links, a file system without them."""


class MissingBlob(KeyError):
    """A blob is not here, or was not what its name says and has been put away."""

    def __init__(self, digest: Digest, *, corrupt: bool = False) -> None:
        super().__init__(str(digest))
        self.digest, self.corrupt = digest, corrupt
        self.ran: tuple[str, ...] = ()
        """Actions that had run when it showed: the scheduler notes them."""


class LocalStore:
    """Blobs below a folder; safe for many processes at once, because nothing is ever changed in place."""

    def __init__(self, home: Path) -> None:
        prepare_home(home)
        self.home = home
        self.scratch = Scratch(home / "tmp")
        self._cas = str(home / "cas")
        self._shards: set[str] = set()
        self._damaged: set[str] = set()
        self.lost: list[MissingBlob] = []
        """What was found missing or damaged, in order: some callers turn the error into one of their own."""
        self.intact: set[str] = set()
        """Root hashes of the trees on disk that were looked at since the last damage."""

    def path(self, digest: Digest, *, executable: bool = False) -> Path:
        """Name the file that holds a blob; executables have a copy of their own, as links share modes."""
        return Path(self._name(digest, executable))

    def contains(self, digest: Digest) -> bool:
        """Say whether it is here, and of the right size."""
        with suppress(OSError):
            if os.stat(self._name(digest)).st_size == digest.size:
                return True
        recipe = self._recipe(digest.hash)
        return recipe is not None and recipe.size == digest.size and all(map(self.contains, recipe.blobs()))

    def find(self, pin: Pin) -> Digest | None:
        """Name the blob that `pin` means; None when it is not here."""
        if isinstance(pin, Digest):
            return pin if self.contains(pin) else None
        # Nothing says how long it must be, so that the bytes have to: a torn file would pass for a short one.
        name = f"{self._cas}/{pin.hash[:2]}/{pin.hash}"
        with suppress(OSError):
            digest = Digest(pin.hash, os.stat(name).st_size)
            if _hash(name) == pin.hash:
                return digest
            self._quarantine(name, digest)
        return None

    @contextmanager
    def writer(self) -> Iterator[LocalWriter]:
        """Open a writer; leaving the block without `commit` drops what was written."""
        writer = LocalWriter(self, *self.scratch.file())
        try:
            yield writer
        finally:
            writer.close()

    def put(self, data: bytes) -> Digest:
        """Keep `data`."""
        digest = Digest.of(data)
        if not self._is_sound(digest):
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
        self.scratch.write(self.home / "recipes" / digest.hash, Recipe(digest.size, tuple(parts)).encode())

    def open(self, digest: Digest) -> BinaryIO:
        """Open verified bytes for reading; MissingBlob when they are not here."""
        if self._is_sound(digest):
            with suppress(FileNotFoundError):
                return open(self._name(digest), "rb")
        recipe = self._recipe(digest.hash)
        if recipe is None or recipe.size != digest.size:
            raise self._missing(digest)
        return io.BufferedReader(Concatenation(recipe.parts, self.open), _CHUNK)

    def read(self, digest: Digest) -> bytes:
        """Read a blob whole."""
        with self.open(digest) as file:
            return file.read()

    def link(self, digest: Digest, target: Path | str, *, executable: bool = False) -> None:
        """Make a blob appear as a new file, without copying where the file system allows it."""
        source = self.sound_path(digest, executable=executable)
        with host_errors(Path(target)):
            try:
                self._link(source, target)
            except OSError as error:
                if error.errno not in _UNLINKABLE:
                    raise
                with open(source, "rb") as data, open(target, "xb") as copy:
                    shutil.copyfileobj(data, copy, _CHUNK)
                os.chmod(target, 0o555 if executable else 0o444)
                os.utime(target, (STAMP, STAMP))

    def _link(self, source: Path, target: Path | str) -> None:
        for _ in range(_REPLACED):
            # What another thread replaces by its own copy meanwhile cannot be linked to: ENOENT, and the name is there.
            with suppress(FileNotFoundError):
                os.link(source, target)
                return
        os.link(source, target)

    def sound_path(self, digest: Digest, *, executable: bool = False) -> Path:
        """Name a verified file with the blob's bytes; MissingBlob when they are not here."""
        if not self._is_sound(digest):
            self._assemble(digest)
        if executable and not self._is_sound(digest, executable=True):
            handle, name = self.scratch.file()
            with host_errors(self.home), suppress(FileNotFoundError):
                try:
                    with os.fdopen(handle, "wb") as copy, open(self._name(digest), "rb") as data:
                        shutil.copyfileobj(data, copy, _CHUNK)
                    _seal(name, self._name(digest, True), 0o555)
                finally:
                    with suppress(FileNotFoundError):
                        os.unlink(name)
        return self.path(digest, executable=executable)

    def verify(self, digest: Digest) -> None:
        """Make sure that a blob is here and sound; MissingBlob when it is not."""
        if not self._is_sound(digest):
            recipe = self._recipe(digest.hash)
            if recipe is None or recipe.size != digest.size:
                raise self._missing(digest)
            for part in recipe.blobs():
                self.verify(part)

    def present(self) -> set[bytes]:
        """List the hashes of all that is here, in binary: one look at the folders, for many questions."""
        found: set[bytes] = set()
        for shard in os.listdir(self._cas):
            with suppress(OSError, ValueError):
                found.update(bytes.fromhex(name) for name in os.listdir(f"{self._cas}/{shard}") if len(name) == 64)
        for name in os.listdir(self.home / "recipes"):
            recipe = self._recipe(name)
            if recipe is not None and all(map(self.contains, recipe.blobs())):
                found.add(bytes.fromhex(name))
        return found

    def keep(self, temporary: str, digest: Digest) -> None:
        """Give a finished temporary file its name, unless the blob is here already."""
        if self._is_sound(digest):
            os.unlink(temporary)
            return
        if digest.hash[:2] not in self._shards:
            os.makedirs(f"{self._cas}/{digest.hash[:2]}", exist_ok=True)
            self._shards.add(digest.hash[:2])
        _seal(temporary, self._name(digest), 0o444)

    def _name(self, digest: Digest, executable: bool = False) -> str:
        return f"{self._cas}/{digest.hash[:2]}/{digest.hash}{'.x' if executable else ''}"

    def _is_sound(self, digest: Digest, *, executable: bool = False) -> bool:
        """Say whether a file has the blob's bytes; one that has other bytes is put away."""
        name = self._name(digest, executable)
        try:
            found = os.stat(name)
            if found.st_size == digest.size:
                if found.st_mtime_ns == STAMP * 10**9:
                    return True
                if _hash(name) == digest.hash:
                    with suppress(OSError):
                        os.utime(name, (STAMP, STAMP))
                    return True
        except FileNotFoundError:
            return False
        except OSError:
            pass  # it cannot be read: as good as damaged
        self._quarantine(name, digest)
        return False

    def _quarantine(self, name: str, digest: Digest) -> None:
        with host_errors(Path(name)), suppress(FileNotFoundError):
            os.replace(name, self.home / "quarantine" / os.path.basename(name))
        self._damaged.add(digest.hash)
        self.intact.clear()  # trees are links to the same files

    def _missing(self, digest: Digest) -> MissingBlob:
        error = MissingBlob(digest, corrupt=digest.hash in self._damaged)
        self.lost.append(error)
        return error

    def _assemble(self, digest: Digest) -> None:
        """Make a file of a recipe."""
        with self.open(digest) as source, self.writer() as writer:
            shutil.copyfileobj(source, writer, _CHUNK)
            try:
                writer.commit(digest)
            except MaterialError as error:
                self._quarantine(str(self.home / "recipes" / digest.hash), digest)
                raise self._missing(digest) from error

    def _recipe(self, name: str) -> Recipe | None:
        try:
            return Recipe.decode((self.home / "recipes" / name).read_bytes())
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
        with host_errors(self._store.home):
            self._file.close()
            self._store.keep(self._name, digest)
        self._name = ""
        return digest

    def close(self) -> None:
        """Drop what was not committed."""
        self._file.close()
        if self._name:
            with suppress(OSError):
                os.unlink(self._name)


def _seal(temporary: str, target: str, mode: int) -> None:
    os.chmod(temporary, mode)
    os.utime(temporary, (STAMP, STAMP))
    os.replace(temporary, target)


def _hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
