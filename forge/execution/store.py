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
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from forge.core.blob import Origin
from forge.core.digest import Digest, Pin
from forge.core.errors import MaterialError
from forge.execution.blob_writer import LocalWriter
from forge.execution.home import host_errors, prepare_home
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

    def __init__(self, digest: Digest, *, corrupt: bool = False, promised: bool = False) -> None:
        super().__init__(str(digest))
        self.digest, self.corrupt, self.promised = digest, corrupt, promised
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
        self.origin: Origin | None = None
        """Where blobs come from that are not here; nowhere, unless somebody says so."""

    def path(self, digest: Digest, *, executable: bool = False) -> Path:
        """Name the file that holds a blob; executables have a copy of their own, as links share modes."""
        return Path(self._name(digest, executable))

    def contains(self, digest: Digest) -> bool:
        """Say whether it is here, and of the right size, or comes when it is read."""
        return self.holds(digest) or (self.origin is not None and self.origin.promises(digest))

    def holds(self, digest: Digest) -> bool:
        """Say whether it is here, and of the right size."""
        with suppress(OSError):
            if os.stat(self._name(digest)).st_size == digest.size:
                return True
        return self._recipe_of(digest) is not None

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
        writer = LocalWriter(self.home, self.keep, *self.scratch.file())
        try:
            yield writer
        finally:
            writer.close()

    def put(self, data: bytes) -> Digest:
        """Keep `data`."""
        digest = Digest.of(data)
        if not self.is_sound(digest):
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
        if self.is_sound(digest):
            with suppress(FileNotFoundError):
                return open(self._name(digest), "rb")
        if (recipe := self._recipe_of(digest)) is not None:
            return io.BufferedReader(Concatenation(recipe.parts, self.open), _CHUNK)
        self._bring(digest)
        return open(self._name(digest), "rb")

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
        if not self.is_sound(digest):
            if self._recipe_of(digest) is not None:
                self._assemble(digest)
            else:
                self._bring(digest)
        if executable and not self.is_sound(digest, executable=True):
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
        """Make sure that a blob is here and sound, brought where it was elsewhere; MissingBlob when it is not."""
        if not self.is_sound(digest):
            if (recipe := self._recipe_of(digest)) is None:
                return self._bring(digest)
            for part in recipe.blobs():
                self.verify(part)
        return None

    def vouches(self, digest: Digest) -> bool:
        """Say whether a blob is here and sound, or comes when it is read."""
        if self.is_sound(digest) or (self.origin is not None and self.origin.promises(digest)):
            return True
        recipe = self._recipe_of(digest)
        if recipe is not None:
            return all(self.vouches(part) for part in recipe.blobs())
        self._missing(digest)
        return False

    def expect(self, digests: Collection[Digest]) -> None:
        """Say that blobs will be read soon, so that those which are elsewhere come together."""
        if self.origin is not None:
            self.origin.bring_all([digest for digest in digests if not self.holds(digest)])

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

    def elsewhere(self, hashes: set[bytes]) -> set[bytes]:
        """Tell which of some hashes, in binary, come when they are read."""
        return self.origin.promised(hashes) if self.origin is not None else set()

    def keep(self, temporary: str, digest: Digest) -> None:
        """Give a finished temporary file its name, unless the blob is here already."""
        if self.is_sound(digest):
            os.unlink(temporary)
            return
        if digest.hash[:2] not in self._shards:
            os.makedirs(f"{self._cas}/{digest.hash[:2]}", exist_ok=True)
            self._shards.add(digest.hash[:2])
        _seal(temporary, self._name(digest), 0o444)

    def _name(self, digest: Digest, executable: bool = False) -> str:
        return f"{self._cas}/{digest.hash[:2]}/{digest.hash}{'.x' if executable else ''}"

    def is_sound(self, digest: Digest, *, executable: bool = False) -> bool:
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

    def _missing(self, digest: Digest, *, promised: bool = False) -> MissingBlob:
        error = MissingBlob(digest, corrupt=digest.hash in self._damaged, promised=promised)
        self.lost.append(error)
        return error

    def _bring(self, digest: Digest) -> None:
        """Have a blob brought; MissingBlob where nobody brings it."""
        promised = self.origin is not None and self.origin.promises(digest)
        if self.origin is None or not self.origin.bring(digest):
            raise self._missing(digest, promised=promised)

    def _assemble(self, digest: Digest) -> None:
        """Make a file of a recipe."""
        with self.open(digest) as source, self.writer() as writer:
            shutil.copyfileobj(source, writer, _CHUNK)
            try:
                writer.commit(digest)
            except MaterialError as error:
                self._quarantine(str(self.home / "recipes" / digest.hash), digest)
                raise self._missing(digest) from error

    def _recipe_of(self, digest: Digest) -> Recipe | None:
        """Find how a blob is put together; None where something that it needs is not to be had."""
        recipe = self._recipe(digest.hash)
        is_whole = recipe is not None and recipe.size == digest.size and all(map(self.contains, recipe.blobs()))
        return recipe if is_whole else None

    def _recipe(self, name: str) -> Recipe | None:
        try:
            return Recipe.decode((self.home / "recipes" / name).read_bytes())
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _seal(temporary: str, target: str, mode: int) -> None:
    os.chmod(temporary, mode)
    os.utime(temporary, (STAMP, STAMP))
    os.replace(temporary, target)


def _hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
