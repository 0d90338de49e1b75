"""WORKSPACE.toml: where things are, and defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge.core.errors import Fault, LoadError, UsageError
from forge.loading.reader import Reader
from forge.loading.table import TomlFile, nearest, parse_toml

FILE = "WORKSPACE.toml"

Model = TypeVar("Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class WorkspaceTable(_Strict):
    """`[workspace]`."""

    name: str
    """Name of the workspace; images are called `<name>/<package>` unless `[image]` says otherwise."""
    packages: str = "targets"
    """Folder of the packages."""
    rules: str = "rules"
    """Folder of the workspace's own rules."""
    toolchains: str = "toolchains"
    """Folder of the workspace's own devices and environments."""


class ImageTable(_Strict):
    """`[image]`."""

    repository: str = ""
    """Prefix of image names; empty for the workspace's name."""
    tag: str = "latest"
    """Tag template; `{package}`, `{name}` and `{platform}` are filled in."""
    assembler: Literal["embedded"] = "embedded"
    created: str = "1970-01-01T00:00:00Z"
    """RFC 3339 time that images carry; fixed, because the clock is no input."""


class Workspace(_Strict):
    """A parsed WORKSPACE.toml."""

    workspace: WorkspaceTable
    build: dict[str, Any] = Field(default_factory=dict)
    image: ImageTable = ImageTable()
    sources: dict[str, str | list[str]] = Field(default_factory=dict)
    remote: dict[str, Any] = Field(default_factory=dict)


def find_root(start: Path) -> Path:
    """Walk up to the folder with a WORKSPACE.toml; UsageError where there is none."""
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder
    raise UsageError(
        f"No {FILE} in `{start}` or above it",
        hint=f'Go to a workspace, or make one: `{FILE}` with `[workspace]` and `name = "…"`',
    )


def load_workspace(root: Path, reader: Reader) -> Workspace:
    """Read and check WORKSPACE.toml; LoadError with every fault."""
    file = parse_toml(reader.read(root / FILE) or b"", FILE, root)
    return validated(Workspace, file.table, file)


def validated(model: type[Model], table: object, file: TomlFile, *keys: str) -> Model:
    """Parse a table of a file; LoadError with every fault at its place."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        faults = faults_of(error, model, file, keys, what=f"`{'.'.join(keys) or file.name}`")
        raise LoadError(*faults) from error


def faults_of(
    error: ValidationError, model: type[BaseModel], file: TomlFile, keys: tuple[str, ...], *, what: str
) -> list[Fault]:
    """Put pydantic's findings in forge's words, each with its place."""
    faults = []
    for item in error.errors():
        path = tuple(str(part) for part in item["loc"])
        named = tuple(part for part in path if not part.isdigit())
        place = file.place(*keys, *named)
        attribute = path[-1] if path else ""
        if item["type"] == "extra_forbidden":
            hint = nearest(attribute, _fields_at(model, named[:-1]))
            faults.append(Fault(f"Unknown attribute `{attribute}` of {what}", place, hint))
        elif item["type"] == "missing":
            faults.append(Fault(f"{what} needs the attribute `{attribute}`", place))
        else:
            message = item["msg"].removeprefix("Value error, ")
            faults.append(Fault(f"`{'.'.join(path)}` of {what}: {message[:1].lower()}{message[1:]}", place))
    return faults


def _fields_at(model: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    current: Any = model
    for part in path:
        field = current.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        current = field.annotation
    return list(current.model_fields)
