"""Reads the header of a GGUF file with limits: nothing that it says is believed unchecked.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rules.actions.fault import BadFile

BLOCKS: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    20: ("IQ4_NL", 32, 18), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8),
    28: ("F64", 1, 8), 30: ("BF16", 1, 2),
}  # fmt: skip
"""Tensor type -> name, elements of a block, bytes of a block."""

MAX_TENSORS = 1 << 20
MAX_KEYS = 1 << 16
MAX_STRING = 1 << 24
MAX_ITEMS = 1 << 24
"""Of an array: the largest vocabularies have a few hundred thousand tokens."""
MAX_DIMENSIONS = 4

_SCALARS: Mapping[int, str] = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9

Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies."""

    name: str
    type: str
    shape: tuple[int, ...]
    """Rows last, as ggml has it."""
    start: int
    """Byte of the file."""
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Header:
    """A GGUF file without its weights."""

    version: int
    metadata: Mapping[str, Value]
    tensors: Mapping[str, Tensor]


def read_header(file: Path) -> Header:
    """Read a file's header; BadFile when anything does not fit."""
    with file.open("rb") as stream:
        return _Reader(file.name, stream).header()


class _Reader:
    def __init__(self, name: str, stream: BinaryIO) -> None:
        self._name, self._stream = name, stream
        self._left = stream.seek(0, 2)
        stream.seek(0)

    def header(self) -> Header:
        total = self._left
        if total < 24 or self._take(4) != b"GGUF":
            raise BadFile(f"`{self._name}` is no GGUF file: it does not begin with `GGUF`")
        version = self._scalar("I")
        if version not in (2, 3):
            raise BadFile(f"`{self._name}` has GGUF version {version}, known are [2, 3]")
        count, keys = self._scalar("Q"), self._scalar("Q")
        if count > MAX_TENSORS or keys > MAX_KEYS:
            raise BadFile(f"`{self._name}` claims {count} tensors and {keys} keys: no model has so many")
        metadata: dict[str, Value] = {}
        for _ in range(int(keys)):
            key = self._string()
            if key in metadata:
                raise BadFile(f"`{self._name}` has the key `{key[:80]}` twice")
            metadata[key] = self._value()
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 8 <= alignment <= 1 << 16 or alignment % 8:
            raise BadFile(f"`{self._name}` has the alignment {str(alignment)[:40]}")
        infos = [self._info() for _ in range(int(count))]
        data = -(-(total - self._left) // alignment) * alignment
        return Header(int(version), metadata, self._tensors(infos, data, total, alignment))

    def _take(self, size: int) -> bytes:
        if size > self._left:
            raise BadFile(f"`{self._name}` is cut off, or lies: {size} bytes are wanted where {self._left} are left")
        self._left -= size
        return self._stream.read(size)

    def _scalar(self, code: str) -> int | float:
        (value,) = struct.unpack(f"<{code}", self._take(struct.calcsize(code)))
        assert isinstance(value, int | float)
        return value

    def _count(self, limit: int, what: str) -> int:
        count = int(self._scalar("Q"))
        if count > limit or count > self._left:
            raise BadFile(f"`{self._name}` has {what} of {count}, over the limit or the file's end")
        return count

    def _string(self) -> str:
        try:
            return self._take(self._count(MAX_STRING, "a string")).decode()
        except UnicodeDecodeError as error:
            raise BadFile(f"`{self._name}` has a string that is not UTF-8") from error

    def _value(self) -> Value:
        kind = int(self._scalar("I"))
        if kind != _ARRAY:
            return self._item(kind)
        inner = int(self._scalar("I"))
        # No key of a model nests arrays; a reader that follows them anywhere can be made to run out of stack.
        return tuple(self._item(inner) for _ in range(self._count(MAX_ITEMS, "an array")))

    def _item(self, kind: int) -> Scalar:
        if kind == _STRING:
            return self._string()
        if kind not in _SCALARS:
            raise BadFile(f"`{self._name}` has a value of the unknown type {kind}")
        return self._scalar(_SCALARS[kind])

    def _info(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        dimensions = int(self._scalar("I"))
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise BadFile(f"Tensor `{name[:80]}` of `{self._name}` has {dimensions} dimensions")
        shape = tuple(int(self._scalar("Q")) for _ in range(dimensions))
        return name, shape, int(self._scalar("I")), int(self._scalar("Q"))

    def _tensors(
        self, infos: list[tuple[str, tuple[int, ...], int, int]], data: int, total: int, alignment: int
    ) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, shape, kind, offset in infos:
            place = f"Tensor `{name[:80]}` of `{self._name}`"
            if name in found:
                raise BadFile(f"{place} is there twice")
            if kind not in BLOCKS:
                raise BadFile(f"{place} has the unknown type {kind}")
            word, elements, block = BLOCKS[kind]
            if not all(shape) or shape[0] % elements:
                raise BadFile(f"{place} has the shape {shape}, `{word}` needs rows in blocks of {elements}")
            size = math.prod(shape) // elements * block
            if offset % alignment:
                raise BadFile(f"{place} begins at byte {offset}, not on a multiple of {alignment}")
            if data + offset + size > total:
                raise BadFile(f"{place} ends behind the end of the file")
            found[name] = Tensor(name, word, shape, data + offset, size)
        at = data
        for tensor in sorted(found.values(), key=lambda each: each.start):
            if tensor.start < at:
                raise BadFile(f"Tensor `{tensor.name[:80]}` of `{self._name}` overlaps the one before")
            at = tensor.start + tensor.size
        return found
