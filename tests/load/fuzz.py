"""Requests that no server should take, made from what it says that it takes; the same ones for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.serving_client import message
from tests.load.schema import Endpoint
from tests.load.wrong_body import ANY, BYTES, FLIPPED, STRUCTURED, TENSORS
from tests.load.wrong_frame import FRAMES, LONG_TARGET

__all__ = ["Case", "bodies", "broken"]

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


def bodies(endpoint: Endpoint, count: int, seed: int, headers: Mapping[str, str]) -> Iterator[Case]:
    """Make requests that are HTTP, with bodies that are wrong."""
    draw = random.Random(f"{seed} {endpoint.path}")
    takes_tensors = "inputs" in endpoint.schema.get("properties", {})
    kinds = [*ANY, *(STRUCTURED if endpoint.schema else []), *(TENSORS if takes_tensors else [])]
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
        if kind is BYTES:
            fields["inference-header-content-length"] = str(body.index(b"]}") + 2)
        elif number % 5 == 2 and takes_tensors:
            length = draw.choice(["-1", "x", "1e3", "9" * 30, str(len(body) + 1), ""])
            fields["inference-header-content-length"] = length
        name = kind.__name__.strip("_")
        # What flips bits may flip none that matters, and what has no required key may then be asked for.
        certain = kind is not FLIPPED
        if certain or endpoint.schema.get("required"):
            yield Case(name, endpoint.path, message("POST", endpoint.path, body, fields), certain)


def broken(endpoint: Endpoint, count: int, seed: int) -> Iterator[Case]:
    """Make requests that are no HTTP; each needs a connection of its own."""
    draw = random.Random(f"{seed} {endpoint.path} broken")
    for number in range(count):
        head, rest = FRAMES[number % len(FRAMES)](draw)
        target = "/" * 40_000 if rest == LONG_TARGET else endpoint.path
        data = f"POST {target} HTTP/1.1\r\nhost: x\r\n".encode() + head + b"\r\n" + rest
        if head.startswith(b"HTTP/"):
            version, _, head = head.partition(b"\r\n")
            data = f"POST {target} ".encode() + version + b"\r\nhost: x\r\n" + head + b"\r\n" + rest
        yield Case(f"frame {head[:40]!r} {rest[:20]!r}", endpoint.path, data, framed=True)
