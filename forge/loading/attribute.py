"""Types of attributes: what a rule's TOML table is parsed into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from forge.core.artifact import Source
from forge.core.errors import LoadError
from forge.core.label import Label


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
