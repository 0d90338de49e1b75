"""Lock files: how a lock is written down, and read again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from forge.core.base_image import BaseImage, base_tables, read_base
from forge.core.digest import Digest, Hash, Pin
from forge.core.image_name import ImageName
from forge.core.lock import EVERY_ARCH, Lock, Material, MissingMaterial
from forge.core.model_source import is_commit, is_repository

FORMAT = 1
"""Version of the lock file's shape; a reader refuses a newer one."""

_FILE_NAME = re.compile(r"(?!\.\.?$)[A-Za-z0-9_.+~%:@!-][A-Za-z0-9_.+~%:@! -]*")


class LockError(ValueError):
    """A lock file that cannot be read."""


def parse(table: Mapping[str, object]) -> Lock:
    """Read a lock's TOML table; LockError names the entry and the fault."""
    if table.get("version") != FORMAT:
        raise LockError(f"Lock version is `{table.get('version')}`, this forge reads {FORMAT}")
    kind = table.get("kind")
    if kind not in ("deb", "python", "sdist", "model", "image"):
        raise LockError(f"Unknown kind of lock `{kind}`")
    wanted = table.get("requested", [])
    packages = _tables(table, "file" if kind == "model" else "package")
    if not isinstance(wanted, list) or not all(isinstance(each, str) for each in wanted):
        raise LockError("`requested` must be a list of texts")
    if kind == "model":
        return _model(table, tuple(wanted), packages)
    image = _image(table) if kind == "image" else None
    materials = tuple(_material(entry) for entry in packages)
    missing = tuple(
        MissingMaterial(_text(each, "name"), _text(each, "requirement"), _text(each, "source"))
        for each in _tables(table, "missing")
    )
    beside = table.get("beside", [])
    if not isinstance(beside, list) or not all(isinstance(each, str) and "==" in each for each in beside):
        raise LockError("`beside` must be a list of `name==version`")
    found = Lock(kind, _text(table, "arch"), tuple(wanted), materials, released=_dates(table), missing=missing)
    return replace(found, image=image, beside=tuple(beside))


def render(lock: Lock) -> str:
    """Write a lock as TOML: the same lock gives the same bytes."""
    lines = ["# Written by `forge lock`; do not edit.", f"version = {FORMAT}", f'kind = "{lock.kind}"']
    is_model = lock.kind == "model"
    if is_model:
        heads = {"source": lock.materials[0].source, "repository": lock.repository, "revision": lock.revision}
        lines.extend(f"{key} = {_quoted(value)}" for key, value in heads.items() if value)
    else:
        lines.append(f"arch = {_quoted(lock.arch)}")
    head, tables = base_tables(lock.image) if lock.image is not None else ({}, [])
    lines.extend(f"{key} = {_quoted(value)}" for key, value in head.items() if value)
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
    for header, table in tables:
        lines += ["", header, *(f"{key} = {_quoted(value)}" for key, value in table.items())]
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
    is_image = revision.startswith("sha256:")
    if is_image:
        _check_image(source, repository, revision)
    elif repository and not (is_repository(repository) and is_commit(revision)):
        raise LockError(f"`{repository}` at `{revision}` is no repository at a commit of 40 hexadecimal digits")
    materials: dict[str, Material] = {}
    for entry in entries:
        file = _text(entry, "path")
        if not all(_FILE_NAME.fullmatch(part) for part in file.split("/")):
            raise LockError(f"`{file}` is no path in a model")
        if file in materials:
            raise LockError(f"`{file}` is there twice")
        path = f"{repository}/resolve/{revision}/{file}" if repository and not is_image else ""
        materials[file] = Material(repository or file, revision, file, _pin(entry, file), source, path)
    if not materials:
        raise LockError("The lock names no `file`")
    return Lock("model", EVERY_ARCH, requested, tuple(materials.values()), repository, revision)


def _check_image(registry: str, repository: str, digest: str) -> None:
    try:
        ImageName.of(registry, repository, "", digest)
    except ValueError as error:
        raise LockError(str(error)) from error


def _image(table: Mapping[str, object]) -> BaseImage:
    try:
        image = read_base(table)
    except ValueError as error:
        raise LockError(str(error)) from error
    if image.digest is None and not table.get("missing"):
        raise LockError("`digest` is missing")
    return image


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
