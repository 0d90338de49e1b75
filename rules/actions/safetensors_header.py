"""Reads the header of a safetensors file with limits: nothing that it says is believed unchecked.

https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rules.actions.fault import BadFile

SIZES: Mapping[str, int] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8,
}  # fmt: skip
"""Bytes of an element by the name of its type."""

MAX_HEADER = 100_000_000
"""Bytes; the reference implementation's own limit."""
MAX_DIMENSIONS = 16
MAX_NAME = 1024


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    """Byte of the file."""
    size: int
    """Bytes."""


def read_header(file: Path) -> dict[str, Tensor]:
    """Read the tensors of one file, by name; BadFile when anything does not fit."""
    with file.open("rb") as stream:
        total = stream.seek(0, 2)
        stream.seek(0)
        first = stream.read(8)
        if len(first) < 8:
            raise BadFile(f"`{file.name}` is no safetensors file: it has {total} bytes")
        length = int.from_bytes(first, "little")
        if length > MAX_HEADER or length > total - 8:
            raise BadFile(f"`{file.name}` is no safetensors file: its header would have {length} bytes, it has {total}")
        text = stream.read(length)
    table = _parse(file, text)
    data = 8 + length
    tensors = [_tensor(file, name, value, data, total) for name, value in table.items() if name != "__metadata__"]
    _check_layout(file, tensors, data, total)
    return {tensor.name: tensor for tensor in tensors}


def read_folder(folder: Path) -> dict[str, Tensor]:
    """Read the headers of all `*.safetensors` in a folder; BadFile when two have one tensor, or there are none."""
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in read_header(file).items():
            if name in found:
                raise BadFile(f"`{name}` is in `{found[name].file.name}` and in `{file.name}`")
            found[name] = tensor
    if not found:
        raise BadFile("The model has no weights in `*.safetensors`")
    return found


def _parse(file: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for key, value in pairs:
            if key in table:
                raise BadFile(f"`{file.name}` names `{key[:80]}` twice in its header")
            table[key] = value
        return table

    try:
        table = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile(f"`{file.name}` is no safetensors file: its header is not JSON") from error
    if not isinstance(table, dict):
        raise BadFile(f"`{file.name}` is no safetensors file: its header is not an object")
    return table


def _tensor(file: Path, name: str, value: Any, data: int, total: int) -> Tensor:
    place = f"Tensor `{name[:80]}` of `{file.name}`"
    if len(name) > MAX_NAME:
        raise BadFile(f"{place} has a name of {len(name)} characters")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise BadFile(f"{place} needs [dtype, shape, data_offsets], and nothing else")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise BadFile(f"{place} has the unknown type `{str(dtype)[:40]}`")
    if not _naturals(shape) or len(shape) > MAX_DIMENSIONS:
        raise BadFile(f"{place} has no shape that can be: {str(shape)[:80]}")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise BadFile(f"{place} has no offsets that can be: {str(offsets)[:80]}")
    start, end = offsets
    if end > total - data:
        raise BadFile(f"{place} ends at byte {end} of {total - data}: the file is cut off, or lies")
    expected = math.prod(shape) * SIZES[dtype]
    if end - start != expected:
        raise BadFile(f"{place} has {end - start} bytes, its type and shape make {str(expected)[:40]}")
    return Tensor(name, dtype, tuple(shape), file, data + start, end - start)


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 2**63 for each in value)


def _check_layout(file: Path, tensors: list[Tensor], data: int, total: int) -> None:
    """The format leaves no byte out and gives none to two."""
    at = data
    for tensor in sorted(tensors, key=lambda each: (each.start, each.size)):
        if tensor.start != at:
            what = "overlaps the one before" if tensor.start < at else f"leaves {tensor.start - at} bytes to nobody"
            raise BadFile(f"Tensor `{tensor.name[:80]}` of `{file.name}` {what}")
        at += tensor.size
    if at != total:
        raise BadFile(f"`{file.name}` has {total - at} bytes behind its last tensor")
