"""What a server says that it takes, and values that are right by that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.fake_tensors import SHAPE
from benchmarks.serving_process import MODEL

__all__ = ["SIZE", "Endpoint", "Schema", "endpoints", "example"]

Schema = Mapping[str, Any]
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
