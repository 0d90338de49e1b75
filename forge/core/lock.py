"""Locks: which files a set of requirements came to. Names and digests, never addresses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from forge.core.digest import Digest, Hash, Pin
from forge.core.label import Label
from forge.core.model_source import ModelRequest, is_commit, is_repository
from forge.core.platform import Arch

FORMAT = 1
"""Version of the lock file's shape; a reader refuses a newer one."""

Kind = Literal["deb", "python", "sdist", "model"]

EVERY_ARCH: Final = "all"
"""What a lock says of files that are the same for every architecture, as Debian does."""

_FILE_NAME = re.compile(r"(?!\.\.?$)[A-Za-z0-9_.+~%:@!-][A-Za-z0-9_.+~%:@! -]*")


@dataclass(frozen=True, slots=True)
class Material:
    """One file that a lock names."""

    name: str
    """Package name as its archive spells it (normalised for Python)."""
    version: str
    file: str
    """File name: `numpy-2.4.1-cp311-…whl`, `libc6_2.36-9_amd64.deb`; of a model's file the path in its repository."""
    digest: Pin
    source: str
    """Source id, such as `pypi` or `debian`; `[sources]` says where that is."""
    path: str = ""
    """Where the file lies below its source, for those that are addressed so (a Debian pool path, a Hub's `resolve`)."""
    suite: str = ""
    """Debian suite that named it."""


@dataclass(frozen=True, slots=True)
class MissingMaterial:
    """One package that was asked for and could not be had where the lock was made."""

    name: str
    """Package name, normalised."""
    requirement: str
    """What was asked for: `torch==2.8.0`."""
    source: str
    """The source id that it must come from."""

    def __str__(self) -> str:
        return f"`{self.requirement}` of source `{self.source}`"


@dataclass(frozen=True, slots=True)
class Lock:
    """The files that `requested` was resolved to, for one architecture."""

    kind: Kind
    arch: str
    """Debian's name of the architecture: `amd64`, `arm64`; EVERY_ARCH for models."""
    requested: tuple[str, ...]
    """What was asked for, sorted; a lock whose request differs from the declaration is stale."""
    materials: tuple[Material, ...]
    """Sorted by name."""
    repository: str = ""
    """Of a model: `OWNER/NAME`, where its source has repositories."""
    revision: str = ""
    """Of a model: the commit."""
    released: tuple[tuple[str, str], ...] = ()
    """Of Debian packages: each suite's date, sorted; a lock is not made from an older state than the last one."""
    missing: tuple[MissingMaterial, ...] = ()
    """Of Python packages: those whose sources had no answer, sorted by name; nothing is built from such a lock."""
    beside: tuple[str, ...] = ()
    """Of a target's own packages: those of its platform that they rest on, `name==version`, sorted."""

    def misfits(self, platform: Iterable[Material]) -> tuple[str, ...]:
        """Say in words why what is locked here does not fit into a platform with these packages; nothing if it does.

        A package that nothing here rests on may change without a word: only what was looked at makes a lock stale.
        """
        has = {each.name: each.version for each in platform}
        rests = (each.partition("==")[::2] for each in self.beside)
        found = [
            f"it rests on `{name}` {version}, the platform has {has.get(name, 'none')}"
            for name, version in rests
            if has.get(name) != version
        ]
        brings = ((each.name, each.version) for each in self.materials if each.name in has)
        return (*found, *(f"it brings `{name}` {version}, the platform has {has[name]}" for name, version in brings))


@dataclass(frozen=True, slots=True)
class LockRequest:
    """What a lock is to be resolved for."""

    name: str
    """The lock's file name, without what its kind adds."""
    kind: Kind
    arch: Arch | Literal["all"]
    requirements: tuple[str, ...] = ()
    """Package names or Python requirements."""
    exclude: tuple[str, ...] = ()
    """Packages cut from the closure."""
    python: str = ""
    """Version of the interpreter that the wheels are for: `3.11`."""
    model: ModelRequest | None = None
    """What a lock of a model is for."""
    sources: tuple[tuple[str, str], ...] = ()
    """Python packages and the ids of the sources that they come from, and from nowhere else."""
    within: Label | None = None
    """Environment that the packages are added to: what it has bounds them, and is not in their lock."""

    @property
    def file(self) -> str:
        """Path of the lock, below the folder of the declaring file."""
        return f"{self.name}.lock.toml" if self.kind == "model" else f"locks/{self.name}.toml"

    @property
    def requested(self) -> tuple[str, ...]:
        """What the lock's own `requested` must be, or it is stale."""
        if self.model is not None:
            return self.model.requested
        return requested(self.requirements, self.exclude, self.sources)

    def is_answered_by(self, lock: Lock | None) -> bool:
        """Say whether `lock` was made for this; one that was not is stale."""
        return lock is not None and (lock.kind, lock.arch, lock.requested) == (self.kind, self.arch, self.requested)


def requested(
    requirements: Iterable[str], exclude: Iterable[str] = (), sources: Iterable[tuple[str, str]] = ()
) -> tuple[str, ...]:
    """Spell a request as its lock keeps it: `numpy`, `-torchvision`, `torch from pytorch-cpu`."""
    pinned = (f"{name} from {source}" for name, source in sources)
    return tuple(sorted({*requirements, *(f"-{name}" for name in exclude), *pinned}))


class LockError(ValueError):
    """A lock file that cannot be read."""


def parse(table: Mapping[str, object]) -> Lock:
    """Read a lock's TOML table; LockError names the entry and the fault."""
    if table.get("version") != FORMAT:
        raise LockError(f"Lock version is `{table.get('version')}`, this forge reads {FORMAT}")
    kind = table.get("kind")
    if kind not in ("deb", "python", "sdist", "model"):
        raise LockError(f"Unknown kind of lock `{kind}`")
    wanted = table.get("requested", [])
    packages = _tables(table, "file" if kind == "model" else "package")
    if not isinstance(wanted, list) or not all(isinstance(each, str) for each in wanted):
        raise LockError("`requested` must be a list of texts")
    if kind == "model":
        return _model(table, tuple(wanted), packages)
    materials = tuple(_material(entry) for entry in packages)
    missing = tuple(
        MissingMaterial(_text(each, "name"), _text(each, "requirement"), _text(each, "source"))
        for each in _tables(table, "missing")
    )
    beside = table.get("beside", [])
    if not isinstance(beside, list) or not all(isinstance(each, str) and "==" in each for each in beside):
        raise LockError("`beside` must be a list of `name==version`")
    more = _dates(table), missing, tuple(beside)
    return Lock(kind, _text(table, "arch"), tuple(wanted), materials, "", "", *more)


def render(lock: Lock) -> str:
    """Write a lock as TOML: the same lock gives the same bytes."""
    lines = ["# Written by `forge lock`; do not edit.", f"version = {FORMAT}", f'kind = "{lock.kind}"']
    is_model = lock.kind == "model"
    if is_model:
        heads = {"source": lock.materials[0].source, "repository": lock.repository, "revision": lock.revision}
        lines.extend(f"{key} = {_quoted(value)}" for key, value in heads.items() if value)
    else:
        lines.append(f"arch = {_quoted(lock.arch)}")
    lines.append("requested = [")
    lines.extend(f"    {_quoted(item)}," for item in sorted(lock.requested))
    lines.append("]")
    if lock.released:
        dates = ", ".join(f"{_quoted(suite)} = {_quoted(date)}" for suite, date in sorted(lock.released))
        lines.append(f"released = {{ {dates} }}")
    if lock.beside:
        lines += ["beside = [", *(f"    {_quoted(item)}," for item in sorted(lock.beside)), "]"]
    for material in sorted(lock.materials, key=lambda each: (each.name, each.version, each.file)):
        entry = _table(material)
        if is_model:
            entry = {"path": material.file, **{key: entry[key] for key in ("sha256", "size")}}
        lines += ["", "[[file]]" if is_model else "[[package]]"]
        lines += [f"{key} = {_quoted(value)}" for key, value in entry.items() if value != ""]
    for absent in sorted(lock.missing, key=lambda each: (each.name, each.requirement)):
        entry = {"name": absent.name, "requirement": absent.requirement, "source": absent.source}
        lines += ["", "[[missing]]", *(f"{key} = {_quoted(value)}" for key, value in entry.items())]
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
        "size": material.digest.size if isinstance(material.digest, Digest) else "",
        "source": material.source,
        "suite": material.suite,
        "path": material.path,
    }


def _dates(table: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    found = table.get("released", {})
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise LockError("`released` must be a table of texts")
    return tuple(sorted(found.items()))


def _tables(table: Mapping[str, object], key: str) -> Sequence[Mapping[str, object]]:
    entries = table.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise LockError(f"`{key}` must be a list of tables")
    return entries


def _model(table: Mapping[str, object], requested: tuple[str, ...], entries: Sequence[Mapping[str, object]]) -> Lock:
    source, repository = _text(table, "source"), _text(table, "repository", "")
    revision = _text(table, "revision", "")
    if repository and not (is_repository(repository) and is_commit(revision)):
        raise LockError(f"`{repository}` at `{revision}` is no repository at a commit of 40 hexadecimal digits")
    materials: dict[str, Material] = {}
    for entry in entries:
        file = _text(entry, "path")
        if not all(_FILE_NAME.fullmatch(part) for part in file.split("/")):
            raise LockError(f"`{file}` is no path in a model")
        if file in materials:
            raise LockError(f"`{file}` is there twice")
        path = f"{repository}/resolve/{revision}/{file}" if repository else ""
        materials[file] = Material(repository or file, revision, file, _pin(entry, file), source, path)
    if not materials:
        raise LockError("The lock names no `file`")
    return Lock("model", EVERY_ARCH, requested, tuple(materials.values()), repository, revision)


def _pin(entry: Mapping[str, object], name: str) -> Pin:
    if entry.get("size") is not None:
        return _digest(entry, name)
    sha256 = _text(entry, "sha256")
    try:
        return Hash(sha256)
    except ValueError as error:
        raise LockError(f"{error} (`{name}`)") from error


def _material(entry: Mapping[str, object]) -> Material:
    name, file = _text(entry, "name"), _text(entry, "file")
    if not _FILE_NAME.fullmatch(file):
        raise LockError(f"`{file}` of `{name}` is no plain file name")
    digest = _digest(entry, name)
    path, suite = _text(entry, "path", ""), _text(entry, "suite", "")
    if path.startswith("/") or ".." in path.split("/"):
        raise LockError(f"`path` of `{name}` leads out of its source")
    return Material(name, _text(entry, "version"), file, digest, _text(entry, "source"), path, suite)


def _digest(entry: Mapping[str, object], name: str) -> Digest:
    size = entry.get("size")
    if not isinstance(size, int) or isinstance(size, bool):
        raise LockError(f"`size` of `{name}` must be a number of bytes")
    try:
        return Digest(_text(entry, "sha256"), size)
    except ValueError as error:
        raise LockError(f"{error} (`{name}`)") from error


def _text(table: Mapping[str, object], key: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or (not value and default is None):
        raise LockError(f"`{key}` is missing or not text")
    return value
