"""Bodies that no endpoint should take: each is made by a function of a random source and the endpoint's schema."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.fake_tensors import SHAPE
from tests.load.schema import SIZE, Schema, example

__all__ = ["ANY", "BYTES", "FLIPPED", "STRUCTURED", "TENSORS", "Kind"]

Kind = Callable[[random.Random, Schema], bytes]
DEEP = 100_000
SCALARS = (
    *(b"[]", b"null", b"NaN", b"true", b"5", b'"text"', b"-0", b"1e400", b"Infinity", b"[[]]", b"[{}]", b'""'),
    *(b"{", b"}", b"{}}", b"[{]", b"{'a': 1}", b'{"a" 1}', b'{"a": 1,}', b'{"a": undefined}', b"\xef\xbb\xbf{}", b"\0"),
)
NO_UTF8 = (b"\xff", b"\xc3(", b"\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\xaf", b"\xfe\xff")


def _scalar(draw: random.Random, schema: Schema) -> bytes:
    return draw.choice(SCALARS)


def _noise(draw: random.Random, schema: Schema) -> bytes:
    return draw.randbytes(draw.randint(1, 600))


def _base64(draw: random.Random, schema: Schema) -> bytes:
    return base64.b64encode(draw.randbytes(draw.randint(1, 300)))


def _no_utf8(draw: random.Random, schema: Schema) -> bytes:
    body = _text(example(schema) if schema else {"text": "text"})
    place = draw.randrange(len(body) + 1)
    return body[:place] + draw.choice(NO_UTF8) + body[place:]


def _deep(draw: random.Random, schema: Schema) -> bytes:
    # Mostly a twentieth of it: a megabyte at a time is another test.
    depth = DEEP if draw.random() < 0.05 else DEEP // 20
    key = next(iter(schema.get("properties", {})), "a").encode()
    return draw.choice(
        [
            b"[" * depth,
            b"[" * depth + b"]" * depth,
            b'{"%b":' % key * depth + b"1" + b"}" * depth,
            b'{"%b": ' % key + b"[" * depth + b"]" * depth + b"}",
            b'{"%b": "' % key + b"\\" * (2 * depth + 1) + b'"}',
        ]
    )


def _truncated(draw: random.Random, schema: Schema) -> bytes:
    body = _text(example(schema) if schema else {"text": "text"})
    return body[: draw.randrange(1, max(len(body), 2))].rstrip(b"}") or b"{"


def _trailing(draw: random.Random, schema: Schema) -> bytes:
    return _text(example(schema) if schema else {}) + draw.choice([b"{}", b"x", b",", b"\0", b"//", b"]", b"1"])


ANY: Sequence[Kind] = [
    *(_scalar, _noise, _base64, _no_utf8, _deep, _truncated, _trailing),
]


# Bodies for an endpoint whose schema is told.


def _wrong_type(draw: random.Random, schema: Schema) -> bytes:
    return _text(_spoil(draw, schema, _other_type))


def _huge_number(draw: random.Random, schema: Schema) -> bytes:
    """Put a number where it cannot be; JSON as text, for Python writes none of these."""
    body = _text(_spoil(draw, schema, lambda draw, schema: "@"))
    return body.replace(b'"@"', draw.choice([b"1" + b"0" * 400, b"-1e999", b"NaN", b"-Infinity", b"1" * 5000]))


def _missing(draw: random.Random, schema: Schema) -> bytes:
    value = example(schema)
    required = schema.get("required", ())
    if not required:
        return _unknown(draw, schema)
    del value[draw.choice(required)]
    return _text(value)


def _unknown(draw: random.Random, schema: Schema) -> bytes:
    key = draw.choice(["x", "", "__proto__", "\ud800", "k" * 5000, "prompts ", "\0", "$ref"])
    return _text({**example(schema), key: draw.choice([1, "", {}, []])})


def _twice(draw: random.Random, schema: Schema) -> bytes:
    """Give a right value, and then another of the wrong type."""
    right = _text(example(schema))[:-1]
    wrong = _wrong_type(draw, schema)[1:]
    return right + b", " + wrong if right != b"{" else right + wrong


def _flipped(draw: random.Random, schema: Schema) -> bytes:
    body = bytearray(_text(example(schema)))
    for _ in range(draw.randint(1, 4)):
        body[draw.randrange(len(body))] = draw.randrange(256)
    return bytes(body)


STRUCTURED: Sequence[Kind] = [
    *(_wrong_type, _wrong_type, _wrong_type, _huge_number, _missing, _unknown, _twice, _flipped),
]


def _spoil(draw: random.Random, schema: Schema, change: Callable[[random.Random, Schema], object]) -> Any:
    """Change one value, somewhere."""
    if schema.get("type") == "array" and draw.random() < 0.7:
        return [_spoil(draw, schema["items"], change)]
    if schema.get("type") != "object" or "properties" not in schema:
        return change(draw, schema)
    value = example(schema)
    # A value of any type cannot be of a wrong one.
    typed = [key for key, each in schema["properties"].items() if _has_type(each)]
    key = draw.choice(typed)
    value[key] = _spoil(draw, schema["properties"][key], change)
    return value


def _has_type(schema: Schema) -> bool:
    return "type" in schema or "oneOf" in schema


def _other_type(draw: random.Random, schema: Schema) -> object:
    types = {each["type"] for each in schema.get("oneOf", [schema])}
    others: dict[str, list[object]] = {
        "string": ["yes", "-"],
        "array": [[True], [[]], [None]],
        "object": [{"a": 1}, {"": None}],
        "boolean": [True],
        "number": [2.5],
        "integer": [7],
    }
    fits = {"number": {"number", "integer"}}
    accepted = set().union(*(fits.get(each, {each}) for each in types))
    return draw.choice([each for kind, values in others.items() if kind not in accepted for each in values])


# Bodies for tensors.


def _bad_tensor(draw: random.Random, schema: Schema) -> bytes:
    tensor: dict[str, object] = {"name": "x", "shape": [1, *SHAPE], "datatype": "FP32", "data": [0.5] * SIZE}
    key = draw.choice(list(BAD))
    tensor[key] = draw.choice(BAD[key])
    return _text({"inputs": [tensor]})


def _bad_bytes(draw: random.Random, schema: Schema) -> bytes:
    """Name bytes that are not there, or leave out some that are."""
    size = draw.choice([0, 1, 4 * SIZE - 1, 4 * SIZE + 1, 2**31, 2**62, 10**30])
    tensor = {"name": "x", "shape": [1, *SHAPE], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    return _text({"inputs": [tensor]}) + draw.randbytes(draw.choice([0, 3, 4 * SIZE]))


def _bad_outputs(draw: random.Random, schema: Schema) -> bytes:
    value = example(schema)
    value["outputs"] = draw.choice([[{"name": "z"}], [{"name": "y"}] * 2, [{}], [[]], 5, [{"name": "y", "x": 1}]])
    return _text(value)


BAD: Mapping[str, Sequence[object]] = {
    "shape": (
        *([], [1], [-1, *SHAPE], [0, *SHAPE], [2, *SHAPE], [1, 3, 4, 5], "x", [1.5], [1, 3, 4, -4], [[1], 3, 4, 4]),
        *([2**31, *SHAPE], [10**30, *SHAPE], [1] * 200),
    ),
    "datatype": ("FP64", "INT8", "BYTES", "BF16", "BOOL", "fp32", "", "x" * 500),
    "data": (
        *([], [0.5] * 47, [0.5] * 49, ["x"] * 48, [None] * 48, [True] * 48, "AAAA", 5, {}, [[0.5] * 48, 1], [[]] * 48),
        *([[[[0.5] * 4] * 4] * 3, 1], [1e300] * 48, [10**400] * 48),
    ),
    "name": ("y", "", "\ud800", 5, "x" * 5000),
    "parameters": (5, {"binary_data_size": 4}, {"binary_data_size": -1}, {"shared_memory_region": 1}),
}
TENSORS: Sequence[Kind] = [_bad_tensor, _bad_tensor, _bad_bytes, _bad_outputs]
FLIPPED: Kind = _flipped
BYTES: Kind = _bad_bytes


def _text(value: object) -> bytes:
    return json.dumps(value).encode()
