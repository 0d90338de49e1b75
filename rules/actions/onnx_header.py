"""Reads what an ONNX file refers to, with limits, before any library opens it.

A walk over the protobuf wire format, https://protobuf.dev/programming-guides/encoding/, along the few fields of
onnx.proto that lead to tensors: a tensor's data may lie in another file, and that file must be the model's own.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rules.actions.fault import BadFile

MAX_DEPTH = 32
"""Of graphs in graphs, counted in messages."""
MAX_NODES = 1 << 22

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE, _FUNCTION, _ENTRY = range(8)
_CHILDREN: dict[int, dict[int, int]] = {
    _MODEL: {7: _GRAPH, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TENSOR: {13: _ENTRY},
    _ENTRY: {},
}
"""Message -> field -> message: where a tensor can be."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an ONNX file consists of."""

    ir_version: int
    nodes: int
    operators: frozenset[str]
    external: frozenset[str]
    """Files beside it that hold weights, relative to its folder."""


def read_header(file: Path) -> Header:
    """Read a file and check the files that it refers to; BadFile when anything does not fit."""
    size = file.stat().st_size
    if not size:
        raise BadFile(f"`{file.name}` is no ONNX file: it is empty")
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        header = _Walk(file.name, data).header(size)
    for name in header.external:
        _check_external(file, name)
    return header


def _check_external(file: Path, name: str) -> None:
    place = f"`{file.name}` keeps weights in `{name[:120]}`"
    folder = file.parent.resolve()
    path = folder / name
    try:
        inside = bool(name) and "\0" not in name and path.resolve().is_relative_to(folder)
        if not inside or path.is_symlink():
            raise BadFile(f"{place}, outside the model's folder")
        if not path.is_file():
            raise BadFile(f"{place}, which is not there")
    except (OSError, RuntimeError) as error:  # too long a name, a loop of links
        raise BadFile(f"{place}, which cannot be: {error}") from error


class _Walk:
    def __init__(self, name: str, data: mmap.mmap) -> None:
        self._name, self._data = name, data
        self._ir = self._nodes = 0
        self._graphs = 0
        self._operators: set[str] = set()
        self._external: set[str] = set()

    def header(self, size: int) -> Header:
        self._walk(_MODEL, 0, size, 0)
        if not self._ir or not self._graphs:
            raise BadFile(f"`{self._name}` is no ONNX file: it has no version and no graph")
        return Header(self._ir, self._nodes, frozenset(self._operators), frozenset(self._external))

    def _walk(self, message: int, start: int, end: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise BadFile(f"`{self._name}` nests its graphs deeper than {MAX_DEPTH}")
        self._graphs += message == _GRAPH
        self._nodes += message == _NODE
        if self._nodes > MAX_NODES:
            raise BadFile(f"`{self._name}` has more than {MAX_NODES} nodes")
        entry: dict[int, str] = {}
        for field, value, first, last in self._fields(start, end):
            child = _CHILDREN[message].get(field)
            if message == _MODEL and field == 1:
                self._ir = value
            elif message == _NODE and field == 4:
                self._operators.add(self._text(first, last))
            elif message == _ENTRY and field in (1, 2):
                entry[field] = self._text(first, last)
            elif child is not None:
                if first < 0:
                    raise BadFile(f"`{self._name}` is no ONNX file: field {field} is no message")
                self._walk(child, first, last, depth + 1)
        if message == _ENTRY and entry.get(1) == "location":
            self._external.add(entry.get(2, ""))

    def _fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield field, value of a number, first and last byte of bytes (-1 when it is a number)."""
        while at < end:
            tag, at = self._varint(at, end)
            field, wire = tag >> 3, tag & 7
            value, first = 0, -1
            if wire == 0:
                value, at = self._varint(at, end)
            elif wire in (1, 5):
                at += 8 if wire == 1 else 4
            elif wire == 2:
                length, first = self._varint(at, end)
                at = first + length
            else:
                raise BadFile(f"`{self._name}` is no ONNX file: wire type {wire}")
            if at > end or not field:
                raise BadFile(f"`{self._name}` is no ONNX file, or cut off: a field ends behind its message")
            yield field, value, first, at

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise BadFile(f"`{self._name}` is no ONNX file, or cut off: a number does not end")

    def _text(self, first: int, last: int) -> str:
        if first < 0 or last - first > 4096:
            raise BadFile(f"`{self._name}` is no ONNX file: a name is no text, or too long")
        return self._data[first:last].decode("utf-8", "replace")
