"""Toolchains: one TOML file per device, `backends.toml`, and `environments.toml`.

Together they make the package `//toolchains`, whose targets are environments: those of
environments.toml, and one for each platform, which adds the platform's wheels to its base.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from forge.core.compatibility import CompatibilityRow, Requirement
from forge.core.errors import Fault, LoadError
from forge.core.label import Label, is_name
from forge.core.platform import ARCHITECTURES, Backend, Parameter, Platform, Toolchain
from forge.loading.reader import Reader
from forge.loading.table import TomlFile, nearest, parse_toml
from forge.loading.workspace import validated

PACKAGE = "toolchains"
_BACKENDS, _ENVIRONMENTS, _COMPATIBILITY = "backends.toml", "environments.toml", "compatibility.toml"

_VERSION = r"^([0-9]+(\.[0-9]+)*)?$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Parameter(_Strict):
    type: Literal["int", "float", "bool", "str"]
    default: int | float | bool | str
    doc: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


class _Backend(_Strict):
    module: str
    formats: tuple[str, ...] = Field(min_length=1)
    params: dict[str, _Parameter] = Field(default_factory=dict)


class _Row(_Strict):
    when: str
    needs: tuple[str, ...] = Field(min_length=1)
    source: str


class _Rows(_Strict):
    row: tuple[_Row, ...] = ()


class _Device(_Strict):
    arch: Literal["amd64", "arm64"]
    accelerator: str = "none"
    driver: str = Field(default="", pattern=_VERSION)
    """Version of NVIDIA's driver, at least."""
    jetpack: str = Field(default="", pattern=_VERSION)
    """Of a Jetson: version of its system."""
    env: dict[str, str] = Field(default_factory=dict)
    """Variables of every service there, below the service's own."""


class _Platform(_Strict):
    base: str
    backend: str = ""
    requirements: tuple[str, ...] = ()
    exclude_wheels: tuple[str, ...] = ()
    sources: dict[str, str] = Field(default_factory=dict)
    built: tuple[str, ...] = ()
    """`wheel` targets, where no index has a wheel."""
    python: str = "3.11"
    glibc: str = "2.36"
    site: str = "dist-packages"


@dataclass(frozen=True, slots=True)
class Toolchains:
    """Everything that toolchain folders declare."""

    platforms: dict[str, Platform] = field(default_factory=dict)
    toolchains: dict[str, Toolchain] = field(default_factory=dict)
    tables: dict[str, tuple[dict[str, Any], TomlFile]] = field(default_factory=dict)
    """Targets of the package `//toolchains`, with the files that declare them."""


def load_toolchains(folders: Iterable[tuple[Path, str]], reader: Reader) -> Toolchains:
    """Read toolchain folders, given with the names that messages use; names taken twice are errors."""
    found = Toolchains({arch: Platform(arch, arch) for arch in ARCHITECTURES})
    backends: dict[str, tuple[Backend, TomlFile]] = {}
    files = list(_files(folders, reader))
    rows: list[CompatibilityRow] = []
    for file in files:
        name = Path(file.name).name
        if name == _BACKENDS:
            for key, table in file.table.items():
                _claim(backends, key, file, "Backend")
                backends[key] = (_backend(key, validated(_Backend, table, file, key), file), file)
        elif name == _ENVIRONMENTS:
            for key, table in file.table.items():
                _claim(found.tables, key, file, "Environment")
                found.tables[key] = ({"rule": "environment", **table} if isinstance(table, dict) else table, file)
        elif name == _COMPATIBILITY:
            rows += _rows(file)
    devices: dict[str, tuple[None, TomlFile]] = {}
    for file in files:
        if (name := Path(file.name).name) not in (_BACKENDS, _ENVIRONMENTS, _COMPATIBILITY):
            _claim(devices, name, file, "Device")
            devices[name] = (None, file)
            _load_device(file, found, {key: backend for key, (backend, _) in backends.items()})
    for toolchain in found.toolchains.values():
        table = found.tables[toolchain.environment.name][0]
        if _runs_everywhere(toolchain.base, found.tables):
            # Its base is the one for its architecture; what compiles is the one that runs here.
            table |= {"base": f"{toolchain.base}@{toolchain.platform.arch}", "byte_code": str(toolchain.base)}
    known = {name: replace(each, compatibility=tuple(rows)) for name, each in found.toolchains.items()}
    return replace(found, toolchains=known)


def _files(folders: Iterable[tuple[Path, str]], reader: Reader) -> Iterable[TomlFile]:
    seen: list[Path] = []
    for folder, shown in folders:
        if any(folder.is_dir() and folder.samefile(other) for other in seen):
            continue
        names = [name for name in reader.names(folder) if name.endswith(".toml")]
        if folder.is_dir():
            seen.append(folder)
        for name in names:
            yield parse_toml(reader.read(folder / name) or b"", f"{shown}/{name}", folder)


def _claim(taken: Mapping[str, tuple[Any, TomlFile]], name: str, file: TomlFile, kind: str) -> None:
    if name in taken:
        text = f"{kind} `{name.removesuffix('.toml')}` is already declared in {taken[name][1].name}"
        raise LoadError(text, place=file.place(name), hint="Give it another name")


def _backend(name: str, model: _Backend, file: TomlFile) -> Backend:
    parameters = tuple(
        Parameter(key, each.type, each.default, each.doc, each.minimum, each.maximum, each.choices)
        for key, each in model.params.items()
    )
    faults = [(each.name, each.fault(each.default)) for each in parameters]
    if any(text for _, text in faults):
        raise LoadError(*(Fault(f"Default of {text}", file.place(name, "params", key)) for key, text in faults if text))
    return Backend(name, model.module, model.formats, parameters)


def _rows(file: TomlFile) -> Iterable[CompatibilityRow]:
    for row in validated(_Rows, file.table, file).row:
        try:
            needs = tuple(map(Requirement.parse, row.needs))
            yield CompatibilityRow(Requirement.parse(row.when), needs, row.source, file.name)
        except ValueError as error:
            raise LoadError(str(error), place=file.place("row")) from error


def _load_device(file: TomlFile, found: Toolchains, backends: dict[str, Backend]) -> None:
    name = Path(file.name).stem
    device = validated(_Device, file.table.get("device", {}), file, "device")
    for key, table in file.table.items():
        if key == "device":
            continue
        model = validated(_Platform, table, file, key)
        if not is_name(key):
            raise LoadError(f"`{key}` cannot be the name of a platform", place=file.place(key))
        if key in found.platforms:
            other = found.toolchains[key].place if key in found.toolchains else "forge itself"
            raise LoadError(f"Platform `{key}` is already declared in {other}", place=file.place(key))
        if model.backend and model.backend not in backends:
            text = f"Unknown backend `{model.backend}` of platform `{key}`"
            raise LoadError(text, place=file.place(key, "backend"), hint=nearest(model.backend, backends))
        platform = Platform(key, device.arch, name, device.accelerator, model.backend, device.driver, device.jetpack)
        base = _relative(model.base, file.place(key, "base"))
        built = tuple(_relative(each, file.place(key, "built")) for each in model.built)
        environment = Label(PACKAGE, key)
        found.platforms[key] = platform
        backend = backends.get(model.backend)
        environ = tuple(sorted(device.env.items()))
        about = model.python, environ, file.name
        found.toolchains[key] = Toolchain(platform, base, environment, backend, *about)
        _claim(found.tables, key, file, "Environment")
        found.tables[key] = (_environment_table(key, model, base, built), file)


def _environment_table(name: str, model: _Platform, base: Label, built: tuple[Label, ...]) -> dict[str, Any]:
    return {
        "rule": "environment",
        "base": str(base),
        "wheels": list(model.requirements),
        "exclude_wheels": list(model.exclude_wheels),
        "sources": model.sources,
        "built": [str(each) for each in built],
        "python": model.python,
        "glibc": model.glibc,
        "site": model.site,
        "platforms": [name],
        "name": "{platform}",
        "tags": ["manual"],
    }


def _runs_everywhere(base: Label, tables: Mapping[str, tuple[Any, TomlFile]]) -> bool:
    """Say whether a base is packages of both architectures: then one of them runs on the machine that builds."""
    table = tables[base.name][0] if base.package == PACKAGE and base.name in tables else {}
    return isinstance(table, dict) and "image" not in table and set(table.get("platforms", ())) == set(ARCHITECTURES)


def _relative(text: str, place: str) -> Label:
    try:
        return Label.parse(text if text.startswith(("//", ":")) else f":{text}", PACKAGE)
    except LoadError as error:
        raise LoadError(error.faults[0].text, place=place, hint=error.faults[0].hint) from error
