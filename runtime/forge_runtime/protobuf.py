"""The wire format of protocol buffers, as far as one walks through a message.

https://protobuf.dev/programming-guides/encoding. Values are not copied; every length is checked against its message.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

__all__ = ["fields"]

VARINT: Final = 0
BYTES: Final = 2
FIXED: Final = {1: 8, 5: 4}
MAX_VARINT: Final = 10


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field; raise ValueError for what is no message."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        kind = tag & 7
        if tag >> 3 == 0:
            raise ValueError("A field has the number 0")
        if kind == VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == BYTES:
            size, at = _varint(data, at)
        elif kind in FIXED:
            size = FIXED[kind]
        else:
            raise ValueError(f"A field has the wire type {kind}")
        if size > end - at:
            raise ValueError(f"A field of {size} bytes in a message that has {end - at} left")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for index in range(MAX_VARINT):
        if at + index >= len(data):
            raise ValueError("A number is cut off")
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value & (2**64 - 1), at + index + 1
    raise ValueError("A number has more than 64 bits")
