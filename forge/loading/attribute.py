"""Types of attributes: what a rule's TOML table is parsed into."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from forge.core.artifact import Placement, Source
from forge.core.errors import LoadError
from forge.core.image_name import ImageName
from forge.core.label import Label
from forge.core.model_source import FileSource, HubSource, ImageSource, WebSource, is_repository

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Where plain http does, as for a registry: nobody is between."""


class Attributes(BaseModel):
    """Base of every rule's attributes: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Scope:
    """What relative values in a table are relative to."""

    package: str
    sources: Callable[[str], tuple[Source, ...]]
    """Path or glob below the package -> files; ValueError when there are none."""


@dataclass(frozen=True, slots=True)
class ForExecution:
    """Marks an attribute whose target runs here, in an action, not in the image."""


def _label(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Label):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a label")
    try:
        return Label.parse(value, _scope(info).package)
    except LoadError as error:
        raise ValueError(error.faults[0].text) from error


def _source(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Source):
        return value
    if not isinstance(value, str):
        raise ValueError("must be the name of a file")
    found: tuple[Source, ...] = _scope(info).sources(value)
    if len(found) != 1:
        raise ValueError(f"`{value}` must be one file, it is {len(found)}")
    return found[0]


def _sources(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, (str, Source)) for item in value):
        raise ValueError("must be a list of files and globs")
    found: list[Source] = []
    for item in value:
        found.extend(_scope(info).sources(item) if isinstance(item, str) else [item])
    return tuple(dict.fromkeys(found))


def _placements(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return tuple(_placement(name, _place(to), _scope(info)) for name, to in value.items())
    if isinstance(value, (list, tuple)) and all(isinstance(item, (str, Placement)) for item in value):
        return tuple(_placement(each, "", _scope(info)) if isinstance(each, str) else each for each in value)
    raise ValueError("must be a list of files, folders and globs, or a table that says where each goes")


def _placement(name: str, to: str, scope: Scope) -> Placement:
    found = _file_source(name, scope)
    is_file = len(found.sources) == 1 and f"/{found.sources[0].path}".endswith(f"/{name}")
    return Placement(found.sources, found.folder, to, is_file)


def _place(to: str) -> str:
    if to == ".":
        return "./"
    if to.startswith("/") or not {"", ".", ".."}.isdisjoint(to.rstrip("/").split("/")) or "\0" in to:
        raise ValueError(f"`{to}` must be a path below the handler's folder")
    return to


def _model_source(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and value.startswith("hf:"):
        repository = value.removeprefix("hf:")
        if not is_repository(repository):
            raise ValueError(f"`{value}` is no repository, write `hf:OWNER/NAME`")
        return HubSource(repository)
    if isinstance(value, str) and value.startswith("oci:"):
        return ImageSource(ImageName.parse(value.removeprefix("oci:")))
    if isinstance(value, str) and value.startswith("file:"):
        return _file_source(value.removeprefix("file:"), _scope(info))
    if isinstance(value, list) or (isinstance(value, str) and _SCHEME.match(value)):
        return _web_source(value if isinstance(value, list) else [value])
    return _label(value, info)


def _file_source(path: str, scope: Scope) -> FileSource:
    """Find a file, what a glob means, or all of a folder; its paths in the model begin below the last named folder."""
    path = path.rstrip("/")
    try:
        return FileSource(path[: _fixed(path)].rpartition("/")[0], scope.sources(path))
    except ValueError as error:
        try:
            return FileSource(path, scope.sources(f"{path}/**"))
        except ValueError:
            raise error from None


def _fixed(path: str) -> int:
    return next((at for at, letter in enumerate(path) if letter in "*?"), len(path))


def _web_source(addresses: list[Any]) -> WebSource:
    found: dict[str, str] = {}
    for address in addresses:
        if not isinstance(address, str):
            raise ValueError("must be a label, `hf:OWNER/NAME`, `file:PATH`, or one or more addresses")
        try:
            parts = urlsplit(address)
        except ValueError as error:
            raise ValueError(f"`{address}` is no address: {error}") from error
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise ValueError(f"`{address}` is no source: write a label, `hf:OWNER/NAME`, `file:PATH` or `https://…`")
        if not parts.hostname or "@" in parts.netloc:
            raise ValueError("an address needs a host and holds no login; put that into `~/.netrc`")
        name = unquote(parts.path).rpartition("/")[2]
        if name in found or not name:
            raise ValueError(f"two addresses end with `{name}`" if name else f"`{address}` names no file")
        found[name] = address
    if not found:
        raise ValueError("must not be empty")
    return WebSource(tuple(sorted(found.items())))


def _scope(info: ValidationInfo) -> Scope:
    if not isinstance(info.context, Scope):
        raise ValueError("Relative values need a package")
    return info.context


TargetLabel = Annotated[Label, BeforeValidator(_label)]
"""A target; relative labels are those of the package."""

SourceFile = Annotated[Source, BeforeValidator(_source)]
"""A file below the package's folder."""

SourceFiles = Annotated[tuple[Source, ...], BeforeValidator(_sources)]
"""Files below the package's folder; `*`, `?` and `**` are expanded, sorted."""

PlacedFiles = Annotated[tuple[Placement, ...], BeforeValidator(_placements)]
"""Files, folders and globs below the package's folder, as a list, or as a table with the place of each."""

ModelSource = Annotated[Label | HubSource | WebSource | FileSource | ImageSource, BeforeValidator(_model_source)]
"""Where a model's files are: a target, a hub's repository, addresses, an image, or files of the package."""


def collect(value: object, kind: type) -> list[Any]:
    """List the values of a type anywhere in attributes."""
    if isinstance(value, kind):
        return [value]
    if isinstance(value, BaseModel):
        return [found for name in type(value).model_fields for found in collect(getattr(value, name), kind)]
    if isinstance(value, dict):
        return [found for item in value.values() for found in collect(item, kind)]
    if isinstance(value, (tuple, list, frozenset)):
        return [found for item in value for found in collect(item, kind)]
    if is_dataclass(value):
        return [found for each in fields(value) for found in collect(getattr(value, each.name), kind)]
    return []


def execution_fields(model: type[BaseModel]) -> frozenset[str]:
    """Name the attributes that are marked ForExecution."""
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if any(isinstance(item, ForExecution) for item in field.metadata)
    )
