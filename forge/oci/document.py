"""JSON documents as images hold them: written in one canonical form, read with limits."""

from __future__ import annotations

import json
from typing import Final

from forge.core.tool import Json

LIMIT: Final = 4 << 20
"""Bytes that a manifest, index or config may have; registries refuse larger manifests."""


def encode(value: object) -> bytes:
    """Write `value` with sorted keys and no spaces, as UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def decode(data: bytes) -> Json:
    """Read a document; ValueError when it is too large, no JSON, or names a key twice."""
    if len(data) > LIMIT:
        raise ValueError(f"has {len(data)} bytes, more than {LIMIT}")
    try:
        value: Json = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    return value


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    # Readers differ on which of two equal keys counts, so one image could be two.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("names a key twice")
    return found


def _constant(name: str) -> Json:
    raise ValueError(f"holds {name}, which is no JSON")
