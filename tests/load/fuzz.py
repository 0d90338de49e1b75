"""Requests that no server should take, made from what it says that it takes; the same ones for the same seed."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.fake_tensors import SHAPE
from benchmarks.serving_client import message
from benchmarks.serving_process import MODEL

Schema = Mapping[str, Any]
DEEP = 100_000
SIZE = 48
"""Numbers in one picture of the fake backend."""
HINTS: Mapping[str, object] = {
    "role": "user",
    "content": "hello",
    "model": MODEL,
    "name": "x",
    "shape": [1, *SHAPE],
    "datatype": "FP32",
    "data": [0.5] * SIZE,
    "parameters": {},
    "temperature": 0,
    "top_p": 1,
}
"""Values that are right where the schema does not say which are."""
SCALARS = (
    *(b"[]", b"null", b"NaN", b"true", b"5", b'"text"', b"-0", b"1e400", b"Infinity", b"[[]]", b"[{}]", b'""'),
    *(b"{", b"}", b"{}}", b"[{]", b"{'a': 1}", b'{"a" 1}', b'{"a": 1,}', b'{"a": undefined}', b"\xef\xbb\xbf{}", b"\0"),
)
NO_UTF8 = (b"\xff", b"\xc3(", b"\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\xaf", b"\xfe\xff")
TYPES = ("application/json", "text/json; charset=utf-16", "application/x-tar", "multipart/form-data", "a" * 300, "/")


@dataclass(frozen=True, slots=True)
class Case:
    """One request on the wire."""

    kind: str
    path: str
    data: bytes
    refused: bool = True
    """Whether nothing but a refusal is right; else an answer is, too."""
    framed: bool = False
    """Whether it is no HTTP, and needs a connection of its own."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What one path takes by POST."""

    path: str
    schema: Schema
    """With the references in it put in; empty where none is told."""


def endpoints(document: Mapping[str, Any]) -> Sequence[Endpoint]:
    """Read them from an OpenAPI document."""
    schemas = document["components"]["schemas"]
    found = []
    for path, operations in document["paths"].items():
        if "post" in operations:
            content = operations["post"].get("requestBody", {}).get("content", {})
            schema = _resolve(content.get("application/json", {}).get("schema", {}), schemas)
            found.append(Endpoint(path.replace("{name}", MODEL).replace("{version}", "1"), schema))
    return found


def bodies(endpoint: Endpoint, count: int, seed: int, headers: Mapping[str, str]) -> Iterator[Case]:
    """Make requests that are HTTP, with bodies that are wrong."""
    draw = random.Random(f"{seed} {endpoint.path}")
    kinds = [*BODIES, *(STRUCTURED if endpoint.schema else []), *(TENSORS if "inputs" in _known(endpoint) else [])]
    for number in range(count):
        kind = kinds[number % len(kinds)]
        body = kind(draw, endpoint.schema)
        fields = dict(headers)
        if number % 7 == 3:
            fields["content-type"] = draw.choice(TYPES)
        if number % 11 == 5:
            fields["content-encoding"] = draw.choice(["gzip", "br", "deflate", "x"])
        if number % 13 == 7:
            fields.pop("authorization", None)
        if kind is _bad_bytes:
            fields["inference-header-content-length"] = str(body.index(b"]}") + 2)
        elif number % 5 == 2 and "inputs" in _known(endpoint):
            length = draw.choice(["-1", "x", "1e3", "9" * 30, str(len(body) + 1), ""])
            fields["inference-header-content-length"] = length
        name = kind.__name__.strip("_")
        # What flips bits may flip none that matters, and what has no required key may then be asked for.
        certain = kind is not _flipped
        if certain or endpoint.schema.get("required"):
            yield Case(name, endpoint.path, message("POST", endpoint.path, body, fields), certain)


def broken(endpoint: Endpoint, count: int, seed: int) -> Iterator[Case]:
    """Make requests that are no HTTP; each needs a connection of its own."""
    draw = random.Random(f"{seed} {endpoint.path} broken")
    for number in range(count):
        head, rest = FRAMES[number % len(FRAMES)](draw)
        target = "/" * 40_000 if rest == b"long target" else endpoint.path
        data = f"POST {target} HTTP/1.1\r\nhost: x\r\n".encode() + head + b"\r\n" + rest
        if head.startswith(b"HTTP/"):
            version, _, head = head.partition(b"\r\n")
            data = f"POST {target} ".encode() + version + b"\r\nhost: x\r\n" + head + b"\r\n" + rest
        yield Case(f"frame {head[:40]!r} {rest[:20]!r}", endpoint.path, data, framed=True)


def example(schema: Schema) -> Any:
    """Make a value as the schema has it, with all that is required and no more than that."""
    if "oneOf" in schema:
        return example(schema["oneOf"][0])
    if schema.get("type") == "object":
        keys = [key for key in schema.get("properties", ()) if key in schema.get("required", ()) or key == "data"]
        return {key: HINTS.get(key, example(schema["properties"][key])) for key in keys}
    if schema.get("type") == "array":
        return [example(schema["items"])]
    return {"integer": 1, "number": 0.5, "boolean": False}.get(schema.get("type", ""), "text")


def _resolve(schema: Any, schemas: Mapping[str, Any]) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _resolve(schemas[schema["$ref"].rpartition("/")[2]], schemas)
        return {key: _resolve(each, schemas) for key, each in schema.items()}
    return [_resolve(each, schemas) for each in schema] if isinstance(schema, list) else schema


def _known(endpoint: Endpoint) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = endpoint.schema.get("properties", {})
    return properties


def _text(value: object) -> bytes:
    return json.dumps(value).encode()


# Bodies for any endpoint: of a random source and the endpoint's schema.


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
    # Mostly a tenth of it: a megabyte at a time is another test.
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


BODIES: Sequence[Callable[[random.Random, Schema], bytes]] = [
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
    return _text({**example(schema), key: draw.choice([1, None, {}, []])})


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


STRUCTURED: Sequence[Callable[[random.Random, Schema], bytes]] = [
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
    tensor.update(draw.choice(BAD_TENSORS))
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


BAD_TENSORS: Sequence[Mapping[str, object]] = [
    *({"shape": shape} for shape in ([], [1], [-1, *SHAPE], [0, *SHAPE], [2, *SHAPE], [1, 3, 4, 5], "x", [1.5])),
    *({"shape": shape} for shape in ([2**31, *SHAPE], [10**30, *SHAPE], [1] * 200, [1, 3, 4, -4], [[1], 3, 4, 4])),
    *({"datatype": name} for name in ("FP64", "INT8", "BYTES", "BF16", "BOOL", "fp32", "", "x" * 500)),
    *({"data": data} for data in ([], [0.5] * 47, [0.5] * 49, ["x"] * 48, [None] * 48, [True] * 48, "AAAA", 5, {})),
    *({"data": data} for data in ([[0.5] * 48, 1], [[[[0.5] * 4] * 4] * 3, 1], [1e300] * 48, [[]] * 48, [10**400] * 48)),
    *({"name": name} for name in ("y", "", "\ud800", 5, "x" * 5000)),
    *({"parameters": each} for each in (5, {"binary_data_size": 4}, {"binary_data_size": -1}, {"shared_memory_region": 1})),
]
TENSORS: Sequence[Callable[[random.Random, Schema], bytes]] = [_bad_tensor, _bad_tensor, _bad_bytes, _bad_outputs]


# What is no HTTP: headers, and what comes behind them. None is followed by a body that is whole.

CHUNKED = b"transfer-encoding: chunked\r\n"
BAD_LENGTHS = (b"-1", b"x", b"1e3", b"+5", b"0x10", b"5, 6", b"9" * 30, b"1 2", b"\xb2", b"5\r\ncontent-length: 6")
BAD_CHUNKS = (b"zz\r\n", b"-5\r\n", b"F" * 20 + b"\r\n", b"5\r\nabcdeXX", b"0x5\r\nabcde\r\n", b"\r\n\r\n", b"5 5\r\n")
BAD_HEADERS = (
    *(b"a b: c\r\n", b": c\r\n", b"a\r\n", b"a: \0\r\n", b"a: b\rc\r\n", b"\x80: b\r\n", b" folded: first\r\n"),
    *(b"transfer-encoding: gzip\r\n", b"transfer-encoding: chunked, chunked\r\n", b"a: " + b"b" * 70_000 + b"\r\n"),
    *(CHUNKED + b"content-length: 5\r\n", b"host: second\r\n", b"".join(b"a%d: b\r\n" % n for n in range(300))),
)
BAD_VERSIONS = (b"HTTP/2.0\r\n", b"HTTP/9.9\r\n", b"HTTP/1.0\r\n" + CHUNKED, b"HTTP/x\r\n", b"HTTP/1.1 \0\r\n")

FRAMES: Sequence[Callable[[random.Random], tuple[bytes, bytes]]] = [
    lambda draw: (b"content-length: " + draw.choice(BAD_LENGTHS) + b"\r\n", b"{}"),
    lambda draw: (CHUNKED, draw.choice(BAD_CHUNKS)),
    lambda draw: (draw.choice(BAD_HEADERS), b""),
    lambda draw: (draw.choice(BAD_VERSIONS), b""),
    lambda draw: (b"", b"long target"),
]
