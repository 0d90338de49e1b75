"""Locks: which files a set of requirements came to. Names and digests, never addresses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from forge.core.digest import Digest
from forge.core.platform import Arch

FORMAT = 1
"""Version of the lock file's shape; a reader refuses a newer one."""

Kind = Literal["deb", "python", "sdist", "model"]

_FILE_NAME = re.compile(r"(?!\.\.?$)[A-Za-z0-9_.+~%:@!-][A-Za-z0-9_.+~%:@! -]*")


@dataclass(frozen=True, slots=True)
class Material:
    """One file that a lock names."""

    name: str
    """Package name as its archive spells it (normalised for Python)."""
    version: str
    file: str
    """File name: `numpy-2.4.1-cp311-…whl`, `libc6_2.36-9_amd64.deb`."""
    digest: Digest
    source: str
    """Source id, such as `pypi` or `debian`; `[sources]` says where that is."""
    path: str = ""
    """Where the file lies below its source, for those that are addressed so (a Debian pool path)."""
    suite: str = ""
    """Debian suite that named it."""


@dataclass(frozen=True, slots=True)
class Lock:
    """The files that `requested` was resolved to, for one architecture."""

    kind: Kind
    arch: str
    """Debian's name of the architecture: `amd64`, `arm64`."""
    requested: tuple[str, ...]
    """What was asked for, sorted; a lock whose request differs from the declaration is stale."""
    materials: tuple[Material, ...]
    """Sorted by name."""


@dataclass(frozen=True, slots=True)
class LockRequest:
    """What a lock is to be resolved for."""

    name: str
    """The lock's file name without `.toml`, in the folder `locks` beside the declaring file."""
    kind: Kind
    arch: Arch
    requirements: tuple[str, ...]
    """Package names or Python requirements."""
    exclude: tuple[str, ...] = ()
    """Packages cut from the closure."""
    python: str = ""
    """Version of the interpreter that the wheels are for: `3.11`."""

    @property
    def requested(self) -> tuple[str, ...]:
        """What the lock's own `requested` must be, or it is stale."""
        return tuple(sorted([*self.requirements, *(f"-{name}" for name in self.exclude)]))


class LockError(ValueError):
    """A lock file that cannot be read."""


def parse(table: Mapping[str, object]) -> Lock:
    """Read a lock's TOML table; LockError names the entry and the fault."""
    if table.get("version") != FORMAT:
        raise LockError(f"Lock version is `{table.get('version')}`, this forge reads {FORMAT}")
    kind = table.get("kind")
    if kind not in ("deb", "python", "sdist", "model"):
        raise LockError(f"Unknown kind of lock `{kind}`")
    requested = table.get("requested", [])
    packages = table.get("package", [])
    if not isinstance(requested, list) or not all(isinstance(each, str) for each in requested):
        raise LockError("`requested` must be a list of texts")
    if not isinstance(packages, list):
        raise LockError("`package` must be a list of tables")
    materials = tuple(_material(entry) for entry in packages)
    return Lock(kind, _text(table, "arch"), tuple(requested), materials)


def render(lock: Lock) -> str:
    """Write a lock as TOML: the same lock gives the same bytes."""
    lines = ["# Written by `forge lock`; do not edit.", f"version = {FORMAT}", f'kind = "{lock.kind}"']
    lines.append(f"arch = {_quoted(lock.arch)}")
    lines.append("requested = [")
    lines.extend(f"    {_quoted(item)}," for item in sorted(lock.requested))
    lines.append("]")
    for material in sorted(lock.materials, key=lambda each: (each.name, each.version, each.file)):
        lines += ["", "[[package]]"]
        lines += [f"{key} = {_quoted(value)}" for key, value in _table(material).items() if value != ""]
    return "\n".join(lines) + "\n"


def _quoted(value: str | int) -> str:
    # JSON's text is TOML's, but for pairs of surrogates, which TOML has not, and DEL, which it wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _table(material: Material) -> dict[str, str | int]:
    return {
        "name": material.name,
        "version": material.version,
        "file": material.file,
        "sha256": material.digest.hash,
        "size": material.digest.size,
        "source": material.source,
        "suite": material.suite,
        "path": material.path,
    }


def _material(entry: object) -> Material:
    if not isinstance(entry, dict):
        raise LockError("`package` must be a list of tables")
    name, file = _text(entry, "name"), _text(entry, "file")
    if not _FILE_NAME.fullmatch(file):
        raise LockError(f"`{file}` of `{name}` is no plain file name")
    size = entry.get("size")
    if not isinstance(size, int) or isinstance(size, bool):
        raise LockError(f"`size` of `{name}` must be a number of bytes")
    try:
        digest = Digest(_text(entry, "sha256"), size)
    except ValueError as error:
        raise LockError(f"{error} (`{name}`)") from error
    path, suite = _text(entry, "path", ""), _text(entry, "suite", "")
    if path.startswith("/") or ".." in path.split("/"):
        raise LockError(f"`path` of `{name}` leads out of its source")
    return Material(name, _text(entry, "version"), file, digest, _text(entry, "source"), path, suite)


def _text(table: Mapping[str, object], key: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or (not value and default is None):
        raise LockError(f"`{key}` is missing or not text")
    return value
