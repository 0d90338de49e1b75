"""Protocol buffers' wire format, as much of it as the Remote Execution API's messages need.

Encoding is canonical in that API's sense: fields in the order of their numbers, defaults left out.
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def varint(value: int) -> bytes:
    """Encode a non-negative integer, seven bits a byte, lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def integer(number: int, value: int) -> bytes:
    """Encode an integer or bool field; negative values as int32 and int64 do, in ten bytes."""
    if not value:
        return b""
    return varint(number << 3 | _VARINT) + varint(value & 0xFFFFFFFFFFFFFFFF)


def message(number: int, value: bytes) -> bytes:
    """Encode an embedded message, also an empty one: its presence says something."""
    return varint(number << 3 | _BYTES) + varint(len(value)) + value


def data(number: int, value: bytes) -> bytes:
    """Encode a bytes field."""
    return message(number, value) if value else b""


def string(number: int, value: str) -> bytes:
    """Encode a string field."""
    return data(number, value.encode())


def fields(encoded: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield each field's number and value in order; ValueError when the bytes are no message."""
    position, end = 0, len(encoded)
    while position < end:
        tag, position = _read_varint(encoded, position)
        number, kind = tag >> 3, tag & 7
        if not number:
            raise ValueError("Field number 0 is reserved")
        if kind == _VARINT:
            value, position = _read_varint(encoded, position)
            yield number, value
            continue
        if kind == _BYTES:
            length, position = _read_varint(encoded, position)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"Unknown wire type {kind}")
        if position + length > end:
            raise ValueError("Message is cut short")
        yield number, encoded[position : position + length]
        position += length


def signed(value: int | bytes) -> int:
    """Read an int32 or int64 field's value."""
    number = as_int(value)
    return number - (1 << 64) if number >> 63 else number


def as_int(value: int | bytes) -> int:
    """Take a field's value as an integer; ValueError when it is bytes."""
    if not isinstance(value, int):
        raise ValueError("Expected an integer field")
    return value


def as_bytes(value: int | bytes) -> bytes:
    """Take a field's value as bytes; ValueError when it is an integer."""
    if not isinstance(value, bytes):
        raise ValueError("Expected a length-delimited field")
    return value


def as_text(value: int | bytes) -> str:
    """Take a field's value as text; ValueError (a UnicodeDecodeError) when it is none."""
    return as_bytes(value).decode()


def _read_varint(encoded: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if position >= len(encoded) or shift > 63:
            raise ValueError("Message is cut short")
        byte = encoded[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, position  # as every decoder does: the tenth byte has bits to spare
        shift += 7
