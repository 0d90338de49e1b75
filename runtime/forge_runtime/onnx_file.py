"""An ONNX file judged before a library opens what it points at.

A tensor may lie in a file of its own, by a path that the model names: `../../etc/passwd` is a path, too.
Only messages that lead to tensors are walked; the field numbers are those of onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from forge_runtime.error import LoadError
from forge_runtime.protobuf import fields

__all__ = ["check_file"]

MAX_DEPTH: Final = 64
"""Of graphs within attributes within graphs."""
MAX_TENSORS: Final = 2**20

TENSOR: Final = "tensor"
MESSAGES: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: TENSOR, 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: TENSOR, 6: "graph", 10: TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: TENSOR, 2: TENSOR},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
}
"""Message -> its fields that lead to tensors, by number."""
IR_VERSION, GRAPH = 1, 7  # of the model
NAME, EXTERNAL_DATA, DATA_LOCATION = 8, 13, 14  # of a tensor
EXTERNAL: Final = 1


@dataclass(frozen=True, slots=True)
class _External:
    """A tensor's entry on where its bytes are."""

    name: str
    location: str
    offset: int
    length: int | None


def check_file(path: Path) -> None:
    """Raise LoadError for what is no ONNX model, or has data that is not whole and beside it."""
    try:
        with path.open("rb") as file:
            # Never closed by hand: views of it live as long as the error that they end in.
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        _check(whole, path)
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise LoadError(f"{path}: Not an ONNX model that can be served: {error}") from None


def _check(whole: memoryview, path: Path) -> None:
    if not {IR_VERSION, GRAPH} <= {number for number, _ in fields(whole)}:
        raise ValueError("It has no version or no graph")
    for external in _externals(whole):
        _check_external(external, path.parent)


def _externals(whole: memoryview) -> Iterator[_External]:
    count = 0
    waiting = [("model", whole, 0)]
    while waiting:
        kind, data, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError("Nested too deeply")
        for number, value in fields(data):
            inner = MESSAGES[kind].get(number)
            if inner is None or isinstance(value, int):
                continue
            if inner == TENSOR:
                count += 1
                yield from _external(value)
            else:
                waiting.append((inner, value, depth + 1))
        if count > MAX_TENSORS:
            raise ValueError(f"More than {MAX_TENSORS} tensors")


def _external(tensor: memoryview) -> Iterator[_External]:
    name, is_external = "", False
    entries: dict[str, str] = {}
    for number, value in fields(tensor):
        if isinstance(value, int):
            is_external |= number == DATA_LOCATION and value == EXTERNAL
        elif number == NAME:
            name = bytes(value[:80]).decode("utf-8", "replace")
        elif number == EXTERNAL_DATA:
            pair = {key: bytes(text).decode() for key, text in fields(value) if not isinstance(text, int)}
            entries[pair.get(1, "")] = pair.get(2, "")
    # Either alone makes some reader go and look.
    if is_external or entries:
        length = entries.get("length")
        yield _External(
            name, entries.get("location", ""), int(entries.get("offset") or 0), int(length) if length else None
        )


def _check_external(external: _External, folder: Path) -> None:
    place = PurePosixPath(external.location)
    shown = f"Tensor {external.name!a} has its data in {external.location[:80]!a}"
    unsafe = "\\" in external.location or "\0" in external.location or ":" in external.location
    if not external.location or place.is_absolute() or ".." in place.parts or unsafe:
        raise ValueError(f"{shown}, which is not a path in the model's folder")
    file = folder / place
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{shown}, which leads out of the model's folder")
    if not file.is_file():
        raise ValueError(f"{shown}, which is not there")
    size = file.stat().st_size
    if external.offset < 0 or (external.length or 0) < 0 or external.offset + (external.length or 0) > size:
        raise ValueError(f"{shown}, which has only {size} bytes")
