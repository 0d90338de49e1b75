"""JSON that others wrote: read without trust."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

__all__ = ["Json", "read_json", "table_of"]

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
"""What can be written as JSON."""


def read_json(data: bytes | str) -> object:
    """Read JSON; ValueError for whatever is none."""
    try:
        value: object = json.loads(data)
    except RecursionError:
        raise ValueError("It is too deep") from None
    return value


def table_of(value: object) -> dict[str, object]:
    """Take an object; an empty one where it is something else."""
    return value if isinstance(value, dict) else {}
