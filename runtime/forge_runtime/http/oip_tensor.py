"""One tensor of the Open Inference Protocol: its datatype, its shape, its elements as JSON or as bytes.

Bytes are those of the binary tensor data extension: little-endian, row-major, without padding.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from forge_runtime.backend import TensorSpec
from forge_runtime.error import RequestError

__all__ = ["check_datatype", "datatype_of", "from_bytes", "from_json", "read_shape", "refused", "to_bytes", "to_json"]

DATATYPES: Final[Mapping[str, str]] = {
    "BOOL": "bool",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}
"""The protocol's names of types, and numpy's."""
NAMES: Final = {dtype: name for name, dtype in DATATYPES.items()}
UNSERVED: Final[Mapping[str, str]] = {"BF16": "numpy has no such type", "BYTES": "no backend takes strings"}
MAX_ELEMENTS: Final = 2**31 - 1
"""Of one tensor. A size of 0 counts as 1 here: numpy cannot make every shape that holds nothing."""
KINDS: Final[Mapping[str, tuple[frozenset[type], str]]] = {
    "b": (frozenset({bool}), "true or false"),
    "i": (frozenset({int}), "a whole number"),
    "u": (frozenset({int}), "a whole number"),
    "f": (frozenset({int, float}), "a number"),
}
"""What JSON may hold for a type, by numpy's letter for its kind."""
SHOWN: Final = 40


def datatype_of(dtype: str) -> str:
    """Return the protocol's name of what numpy calls `dtype`."""
    if dtype not in NAMES:
        # Of the model's making, not the client's: no other request would do.
        raise RequestError(f"The protocol has no datatype for `{dtype}`", status=500, code="unserved_datatype")
    return NAMES[dtype]


def check_datatype(datatype: str, spec: TensorSpec, place: str) -> None:
    """Refuse a datatype that is not the input's."""
    if datatype in UNSERVED:
        raise refused(place, f"`{datatype}` is not served: {UNSERVED[datatype]}")
    if datatype not in DATATYPES:
        raise refused(place, f"Unknown datatype {datatype[:SHOWN]!a}; known are [{', '.join(DATATYPES)}]")
    if DATATYPES[datatype] != spec.dtype:
        raise refused(place, f"Expected `{datatype_of(spec.dtype)}` for `{spec.name}`, got `{datatype}`")


def read_shape(value: object, spec: TensorSpec, place: str, *, any_rows: bool) -> tuple[int, ...]:
    """Check a shape against the input's; with `any_rows` its first size is free, but not 0."""
    sizes = value if isinstance(value, list) else []
    if not isinstance(value, list) or set(map(type, sizes)) - {int} or any(size < 0 for size in sizes):
        raise refused(place, "Expected a list of whole numbers, none below 0")
    wanted = [None, *spec.shape[1:]] if any_rows else list(spec.shape)
    fits = len(sizes) == len(wanted) and all(size in (None, got) for size, got in zip(wanted, sizes, strict=True))
    if not fits:
        shown = ", ".join("-1" if size is None else str(size) for size in wanted)
        got = [size if size <= MAX_ELEMENTS else "..." for size in sizes[:SHOWN]]
        raise refused(
            place, f"Expected [{shown}] for `{spec.name}`, where -1 is any size, got [{', '.join(map(str, got))}]"
        )
    if any_rows and sizes[0] == 0:
        raise refused(f"{place}.0", "Expected at least one row")
    # Python's own numbers: those of numpy would overflow.
    if max(sizes, default=1) > MAX_ELEMENTS or math.prod(size or 1 for size in sizes) > MAX_ELEMENTS:
        raise refused(place, f"A tensor has at most {MAX_ELEMENTS} elements")
    return tuple(sizes)


def from_json(data: object, dtype: str, shape: tuple[int, ...], place: str) -> NDArray[Any]:
    """Read elements, flat and row-major or nested as the shape is."""
    flat = _flatten(data, shape, place)
    if len(flat) != math.prod(shape):
        raise refused(place, f"Expected {math.prod(shape)} elements for shape {list(shape)}, got {len(flat)}")
    kind = np.dtype(dtype).kind
    types, what = KINDS[kind]
    # Over the types first: a look at each of millions of elements would take seconds.
    if not types.issuperset(map(type, flat)):
        index = next(index for index, each in enumerate(flat) if type(each) not in types)
        raise _element(place, index, what, flat[index])
    array = _floats(flat, dtype, place) if kind == "f" else _exact(flat, dtype, place)
    return array.reshape(shape)


def to_json(array: NDArray[Any], name: str) -> list[object]:
    """Return elements, flat and row-major; NaN and infinity are a RequestError of status 500."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        text = f"Output `{name}` holds NaN or infinity, which JSON cannot; ask for it with `parameters.binary_data`"
        raise RequestError(text, status=500, param=f"outputs.{name}", code="not_finite")
    values: list[object] = array.ravel().tolist()
    return values


def from_bytes(data: memoryview, dtype: str, shape: tuple[int, ...], place: str) -> NDArray[Any]:
    """Read as many bytes as the shape says."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if len(data) != size:
        raise refused(place, f"Expected {size} for shape {list(shape)} of `{datatype_of(dtype)}`, got {len(data)}")
    if kind.kind == "b":
        values = np.frombuffer(data, np.uint8)
        if values.size and values.max() > 1:
            raise refused(place, f"Expected bytes 0 and 1 for `BOOL`, got {values.max()}")
    else:
        values = np.frombuffer(data, kind.newbyteorder("<"))
    # A copy: what lies in a body cannot be written to, and is at any address.
    return values.astype(kind).reshape(shape)


def to_bytes(array: NDArray[Any]) -> bytes:
    """Write elements."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def refused(place: str, text: str) -> RequestError:
    """Return a refusal; this protocol's error body is one text, so the place is in that too."""
    return RequestError(f"{place}: {text}", param=place)


def _flatten(data: object, shape: tuple[int, ...], place: str) -> Sequence[object]:
    if not isinstance(data, list):
        raise refused(place, "Expected an array")
    if len(shape) < 2 or not data or not isinstance(data[0], list):
        return data
    level: list[Any] = [data]
    for axis, size in enumerate(shape):
        if set(map(type, level)) - {list} or set(map(len, level)) - {size}:
            raise refused(place, f"Expected arrays of {size} at depth {axis}, nested as shape {list(shape)}, or flat")
        level = list(chain.from_iterable(level))
    return level


def _exact(flat: Sequence[Any], dtype: str, place: str) -> NDArray[Any]:
    if dtype != "bool" and flat:
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        if min(flat) < low or max(flat) > high:
            index = next(index for index, each in enumerate(flat) if not low <= each <= high)
            raise _element(place, index, f"a whole number from {low} to {high}", flat[index])
    return np.array(flat, dtype)


def _floats(flat: Sequence[Any], dtype: str, place: str) -> NDArray[Any]:
    what = f"a number up to {np.finfo(dtype).max:g}"
    try:
        wide = np.array(flat, np.float64)
    except OverflowError:
        # A whole number of JSON may have thousands of digits.
        index = next(index for index, each in enumerate(flat) if isinstance(each, int) and each.bit_length() > 1023)
        raise _element(place, index, what, flat[index]) from None
    with np.errstate(over="ignore"):
        array = wide.astype(dtype)
    finite = np.isfinite(array)
    if not finite.all():
        # 1e400 is JSON, and infinity once it is read.
        index = int(np.argmin(finite))
        raise _element(place, index, what, flat[index])
    return array


def _element(place: str, index: int, what: str, value: object) -> RequestError:
    return refused(place, f"Expected {what} as element {index}, got {_shown(value)}")


def _shown(value: object) -> str:
    if isinstance(value, (list, dict)):
        return "an array" if isinstance(value, list) else "an object"
    if isinstance(value, int) and value.bit_length() > 128:
        return "a huge number"
    # ASCII, so that half a character can be sent.
    return f"`{json.dumps(value[:SHOWN] if isinstance(value, str) else value)}`"
