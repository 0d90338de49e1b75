"""The folder that forge keeps things in: `FORGE_HOME`, by default `~/.cache/forge`."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from forge.core.errors import HostError

SCHEMA = "1"
"""Version of the folder's layout; a folder of a newer one is refused."""

PARTS = ("cas", "ac", "recipes", "closures", "trees", "tmp", "partial", "sandbox", "workspaces", "quarantine")


def home_folder(environ: Mapping[str, str]) -> Path:
    """Find the folder; it need not exist yet."""
    if chosen := environ.get("FORGE_HOME"):
        return Path(chosen).expanduser().absolute()
    cache = environ.get("XDG_CACHE_HOME") or os.path.join(environ.get("HOME", "/"), ".cache")
    return Path(cache) / "forge"


def prepare_home(home: Path) -> None:
    """Make the folder's parts; HostError when that cannot be, or when a newer forge wrote it."""
    with host_errors(home):
        for part in PARTS:
            (home / part).mkdir(parents=True, exist_ok=True)
        found = _version(home / "version")
    if found != SCHEMA:
        raise HostError(
            f"The store `{home}` has schema {found}, this forge knows {SCHEMA}",
            hint="Use the forge that wrote it, or set FORGE_HOME to another folder",
        )


@contextmanager
def host_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a missing permission and their like into a HostError that names the path."""
    try:
        yield
    except OSError as error:
        raise host_error(error, path) from error


def host_error(error: OSError, path: Path) -> HostError:
    """Say what the machine refused, where, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = free_bytes(path)
        return HostError(
            f"No space left to write `{path}` ({free} bytes are free)",
            hint="Free some space, or set FORGE_HOME to a folder on a larger disk; nothing that was finished is lost",
        )
    if error.errno == errno.EFBIG:
        return HostError(f"`{path}` would be larger than this machine's limit for files", hint="See `ulimit -f`")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return HostError(f"May not write `{path}`: {error.strerror}", hint="Set FORGE_HOME to a folder of your own")
    return HostError(f"`{error.filename or path}`: {error.strerror}")


def _version(file: Path) -> str:
    """Read the schema; an empty file is what a power cut leaves of a new one."""
    with suppress(FileNotFoundError):
        if found := file.read_text(errors="replace").strip():
            return found
    temporary = file.with_name(f"version.{os.getpid()}.{threading.get_ident()}")
    temporary.write_text(SCHEMA + "\n")
    os.replace(temporary, file)
    return SCHEMA


def free_bytes(path: Path) -> int:
    """Tell how much can be written where `path` is, or would be."""
    for folder in (path, *path.parents):
        try:
            found = os.statvfs(folder)
        except OSError:
            continue
        return found.f_bavail * found.f_frsize
    return 0
