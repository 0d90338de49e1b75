"""WORKSPACE.toml: where things are, and defaults."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from forge.core.errors import Fault, LoadError, UsageError
from forge.loading.reader import Reader
from forge.loading.table import TomlFile, nearest, parse_toml

FILE = "WORKSPACE.toml"

Model = TypeVar("Model", bound=BaseModel)

_TYPES = ("bool", "int", "float", "str")
_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}
"""pydantic's types of errors, in TOML's words."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _inside(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/") or "\0" in value:
        raise ValueError("must be a folder of the workspace")
    return value


def _tag(value: str) -> str:
    left = re.sub(r"\{(package|name|platform)\}", "", value)
    if not value or not re.fullmatch(r"[A-Za-z0-9_.-]*", left):
        raise ValueError("must be letters, digits, `_`, `.`, `-`, and `{package}`, `{name}`, `{platform}`")
    return value


def _push_tag(value: str) -> str:
    if value:
        _tag(value.replace("{label}", "{name}"))
    return value


def _repository(value: str) -> str:
    left = re.sub(r"\{(label|package|name|platform)\}", "", value)
    if not re.fullmatch(r"[A-Za-z0-9_./:-]*", left):
        raise ValueError("must be a registry and a repository, with `{label}`, `{package}`, `{name}`, `{platform}`")
    return value


def _time(value: str) -> str:
    try:
        stamp = datetime.fromisoformat(value)
    except ValueError as error:
        raise ValueError("must be a time such as `2026-01-31T12:00:00Z`") from error
    if stamp.tzinfo is None:
        raise ValueError("must name its time zone, such as `2026-01-31T12:00:00Z`")
    return value


_Folder = Annotated[str, AfterValidator(_inside)]


class WorkspaceTable(_Strict):
    """`[workspace]`."""

    name: str
    """Name of the workspace; images are called `<name>/<package>` unless `[image]` says otherwise."""
    packages: _Folder = "targets"
    """Folder of the packages."""
    rules: _Folder = "rules"
    """Folder of the workspace's own rules."""
    toolchains: _Folder = "toolchains"
    """Folder of the workspace's own devices and environments."""


class ImageTable(_Strict):
    """`[image]`."""

    repository: str = ""
    """Prefix of image names; empty for the workspace's name."""
    tag: Annotated[str, AfterValidator(_tag)] = "{name}"
    """Tag template; `{package}`, `{name}` and `{platform}` are filled in."""
    assembler: Literal["embedded", "buildx"] = "embedded"
    """Who puts images together: forge itself, or `docker buildx build`."""
    created: Annotated[str, AfterValidator(_time)] = "1970-01-01T00:00:00Z"
    """RFC 3339 time that images carry; fixed, because the clock is no input."""


class BuildxTable(_Strict):
    """`[buildx]`."""

    builder: str = ""
    """Name of the builder; empty for the one that is in use."""
    driver: Literal["", "docker-container", "kubernetes", "remote"] = ""
    """With which the builder is made where it is not there."""
    driver_opts: dict[str, str] = Field(default_factory=dict)
    """Options of the driver, as `docker buildx create --driver-opt` takes them."""
    endpoint: str = ""
    """What the builder is made for: a context, or the address of a remote BuildKit."""
    stages: bool = False
    """A stage a layer, each of which buildx caches, and layers that buildx writes."""
    cache_from: tuple[str, ...] = ()
    """Caches to read, as `docker buildx build --cache-from` takes them; `{name}` becomes the image's name."""
    cache_to: tuple[str, ...] = ()
    """Caches to write."""


class PushTable(_Strict):
    """`[push]`."""

    repository: Annotated[str, AfterValidator(_repository)] = ""
    """Registry and repository, with placeholders; empty for the image's own name."""
    tag: Annotated[str, AfterValidator(_push_tag)] = ""
    """Tag template; empty for the image's own tag."""
    sign_key: str = ""
    """File with the private key that pushed images are signed with, or `env://NAME`; empty for no signature."""
    verify_key: str = ""
    """File with the public key that `forge verify` trusts, or `env://NAME`."""


class RemoteTable(_Strict):
    """`[remote]`: defaults of the flags `--remote-…`. Headers are not among them: a token belongs into no file."""

    cache: str = ""
    """Address of the remote cache: `http(s)://host/prefix`, or `grpc(s)://host:port`."""
    upload_local_results: bool = True
    """Give it what runs here."""
    upload_cached_results: bool = False
    """Give it also what is cached here, where it lacks that."""
    timeout: float = Field(default=30.0, gt=0)
    """Seconds for a call to it."""
    instance_name: str = ""
    """Instance name of the Remote Execution API."""


class Workspace(_Strict):
    """A parsed WORKSPACE.toml."""

    workspace: WorkspaceTable
    build: dict[str, Any] = Field(default_factory=dict)
    image: ImageTable = ImageTable()
    buildx: BuildxTable = BuildxTable()
    push: PushTable = PushTable()
    sources: dict[str, str | list[str]] = Field(default_factory=dict)
    remote: RemoteTable = RemoteTable()


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
        what = f"`{'.'.join(keys) or file.name}`"
        faults = faults_of(error, model, lambda *path: file.place(*keys, *path), what=what)
        raise LoadError(*faults) from error


def faults_of(error: ValidationError, model: type[BaseModel], place: Callable[..., str], *, what: str) -> list[Fault]:
    """Put pydantic's findings in forge's words, each with its place."""
    found: dict[tuple[str, ...], list[ErrorDetails]] = {}
    items = error.errors()
    for item in items:
        found.setdefault(_written(item["loc"], [each["loc"] for each in items]), []).append(item)
    return [_fault(path, details, model, place, what) for path, details in found.items()]


def _fault(
    path: tuple[str, ...], items: list[ErrorDetails], model: type[BaseModel], place: Callable[..., str], what: str
) -> Fault:
    named = tuple(part for part in path if not part.isdigit())
    where = place(*named)
    kind, message = items[0]["type"], items[0]["msg"].removeprefix("Value error, ")
    if not path:
        return Fault(f"{what}: {message}" if kind == "value_error" else f"{what} must be a table", where)
    if kind == "extra_forbidden":
        hint = nearest(path[-1], _fields_at(model, named[:-1]))
        return Fault(f"Unknown attribute `{path[-1]}` of {what}", where, hint)
    if kind == "missing":
        return Fault(f"{what} needs the attribute `{path[-1]}`", where)
    if kind == "too_short":
        message = "must not be empty"
    elif all(item["type"] in _EXPECTED for item in items):
        message = "must be " + " or ".join(dict.fromkeys(_EXPECTED[item["type"]] for item in items))
    return Fault(f"`{'.'.join(path)}` of {what}: {message[:1].lower()}{message[1:]}", where)


def _written(location: tuple[int | str, ...], others: list[tuple[int | str, ...]]) -> tuple[str, ...]:
    """Cut from a finding's location what nobody wrote: the name of one of several types that a value may have."""
    for end in range(len(location) - 1, 0, -1):
        part = str(location[end])
        siblings = {other[end] for other in others if other[:end] == location[:end] and len(other) > end}
        if "[" in part or (part in _TYPES and len(siblings) > 1):
            return tuple(map(str, location[:end]))
    return tuple(map(str, location))


def _fields_at(model: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    current: Any = model
    for part in path:
        field = current.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        current = field.annotation
    return list(current.model_fields)
