"""A folder with materials, from which a machine without a network builds: files by name, and their digests.

`SHA256SUMS` in it lists what it holds, as `sha256sum --check` reads it. A file is written aside, verified and renamed,
and the list written last, so that a call that was interrupted is taken up where it ended.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from forge.cli.material import Fetched
from forge.core.digest import Digest
from forge.core.errors import UserError
from forge.execution.home import host_errors
from forge.execution.store import LocalStore

LIST = "SHA256SUMS"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Vendored:
    """What a call came to."""

    listed: dict[str, str]
    """Path in the folder -> hash, of all that it holds by now."""
    written: int
    """How many files were not there, or were damaged."""
    size: int
    """Bytes of what was asked for."""


def vendor(
    folder: Path, wanted: Iterable[Fetched], store: LocalStore, report: Callable[[str], None] = lambda path: None
) -> Vendored:
    """Put materials that are in the store into a folder; `report` gets the path of each that is written."""
    with host_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            listed = _read(folder / LIST)
            written = size = 0
            for path, digest in sorted(_places(wanted, listed, store).items()):
                if not _is_sound(folder / path, digest):
                    _copy(store, digest, folder / path)
                    report(path)
                    written += 1
                listed[path] = digest.hash
                size += digest.size
            _write(folder / LIST, "".join(f"{value}  {path}\n" for path, value in sorted(listed.items())).encode())
    return Vendored(listed, written, size)


def _places(wanted: Iterable[Fetched], listed: dict[str, str], store: LocalStore) -> dict[str, Digest]:
    """Give each material a path: that below its source, else its name, or where that is another's, its hash first."""
    taken = dict(listed)
    found: dict[str, Digest] = {}
    for each in wanted:
        digest = store.find(each.pin)
        assert digest is not None, f"{each.file} was fetched"
        path = each.path if _is_below(each.path) else each.file
        if taken.get(path, digest.hash) != digest.hash:
            path = f"{digest.hash}/{each.file}"
        taken[path] = digest.hash
        found[path] = digest
    return found


def _is_below(path: str) -> bool:
    """Say whether a path leads to a place in the folder; an address does not."""
    return {"", ".", ".."}.isdisjoint(path.split("/"))


def _is_sound(path: Path, digest: Digest) -> bool:
    with suppress(FileNotFoundError, NotADirectoryError):
        if path.stat().st_size == digest.size:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == digest.hash
    return False


def _copy(store: LocalStore, digest: Digest, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _aside(target) as (handle, name), os.fdopen(handle, "wb") as copy, store.open(digest) as data:
        hashed = hashlib.sha256()
        while chunk := data.read(_CHUNK):
            hashed.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())  # it is about to be carried elsewhere
        if hashed.hexdigest() != digest.hash:
            os.utime(store.path(digest))  # so that the next look at it is a thorough one
            raise UserError(f"`{target.name}` of the store is damaged", hint="Repeat the command: it is fetched anew")
        os.replace(name, target)


def _write(target: Path, data: bytes) -> None:
    with _aside(target) as (handle, name), os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.replace(name, target)


@contextmanager
def _aside(target: Path) -> Iterator[tuple[int, str]]:
    handle, name = tempfile.mkstemp(prefix=".", suffix=".new", dir=target.parent)
    try:
        os.fchmod(handle, 0o644)
        yield handle, name
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def _read(file: Path) -> dict[str, str]:
    """Read a list; what is no line of one is left out, and comes back if it is wanted."""
    found: dict[str, str] = {}
    with suppress(FileNotFoundError):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            value, gap, path = line.partition("  ")
            if gap and len(value) == 64 and (file.parent / path).is_file():
                found[path] = value
    return found


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Have the folder alone: two calls at once would each write a list without the other's files."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
