"""Values of tensors: nested lists, and little-endian bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from forge_client.error import UsageFault

__all__ = ["flat", "unpacked"]

_FORMATS = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i",
    "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip


def flat(values: Sequence[object]) -> Sequence[object]:
    """Take nested lists apart, in row-major order."""
    while values and isinstance(values[0], list):
        values = [item for each in values for item in (each if isinstance(each, list) else [each])]
    return values


def unpacked(name: str, datatype: str, data: bytes) -> list[object]:
    """Read the bytes of a tensor; UsageFault when they are not of that type."""
    if datatype == "BYTES":
        return _texts(name, data)
    letter = _FORMATS.get(datatype)
    if letter is None:
        raise UsageFault(f"`{name}`: {datatype} cannot be sent as JSON")
    size = struct.calcsize(f"<{letter}")
    if len(data) % size:
        raise UsageFault(f"`{name}`: {len(data)} bytes are no {datatype}, each has {size}")
    return [value for (value,) in struct.iter_unpack(f"<{letter}", data)]


def _texts(name: str, data: bytes) -> list[object]:
    """Read texts, each after its length in four bytes."""
    found: list[object] = []
    place = 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "little")
        place += 4 + size
        if place > len(data):
            raise UsageFault(f"`{name}`: The bytes end in the middle of a text", "Each has its length before it")
        try:
            found.append(data[place - size : place].decode())
        except UnicodeDecodeError as error:
            raise UsageFault(f"`{name}`: A text is not UTF-8, which JSON needs") from error
    return found
