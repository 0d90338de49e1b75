"""Small model files made by hand, and a target under analysis, for tests of conversions."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forge.analysis.context import Context, ToolVersions
from forge.core.artifact import Derived, Source
from forge.core.label import Label
from forge.core.platform import Platform
from forge.core.provider import EnvironmentInfo, ModelInfo, Provider
from forge.core.rule import Rule
from forge.core.target import Target
from forge.loading.attribute import Scope, collect
from forge.loading.reader import Reader
from forge.loading.rule_module import load_rules

RULES = Path(__file__).parents[2] / "rules"
PLATFORM = Platform("amd64", "amd64")


def safetensors(table: Mapping[str, Any], data: bytes = b"") -> bytes:
    """Write a safetensors file with a given header."""
    header = json.dumps(table).encode()
    return len(header).to_bytes(8, "little") + header + data


def whole_safetensors() -> bytes:
    """Write one with two tensors."""
    table = {
        "__metadata__": {"format": "pt"},
        "wte.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "wpe.weight": {"dtype": "F16", "shape": [4], "data_offsets": [24, 32]},
    }
    return safetensors(table, bytes(range(32)))


def text(value: str) -> bytes:
    """Write a GGUF string."""
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(
    *, version: int = 3, keys: bytes = b"", key_count: int = 0, infos: bytes = b"", count: int = 0, data: bytes = b""
) -> bytes:
    """Write a GGUF file out of its parts."""
    head = b"GGUF" + struct.pack("<IQQ", version, count, key_count) + keys + infos
    return head + bytes(-len(head) % 32) + data


def info(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    """Write what a GGUF file says of a tensor."""
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def whole_gguf() -> bytes:
    """Write one with a key of each kind and two tensors."""
    keys = text("general.architecture") + struct.pack("<I", 8) + text("gpt2")
    keys += text("gpt2.block_count") + struct.pack("<II", 4, 2)
    keys += text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
    infos = info("token_embd.weight", (32, 2), 8, 0) + info("output_norm.weight", (8,), 0, 96)
    return gguf(keys=keys, key_count=3, infos=infos, count=2, data=bytes(96 + 32))


def field(number: int, value: int | bytes | str) -> bytes:
    """Write a protobuf field."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def onnx(*, location: str = "", nested: int = 0) -> bytes:
    """Write an ONNX file whose one weight lies in another file, below so many subgraphs."""
    tensor = field(8, "weight")
    if location:
        tensor += field(13, field(1, "location") + field(2, location)) + field(14, 1)
    graph = field(5, tensor) + field(1, field(4, "Add"))
    for _ in range(nested):
        graph = field(1, field(4, "If") + field(5, field(6, graph)))
    return field(1, 10) + field(7, graph)


def analyzed(
    attrs: Mapping[str, Any], source: ModelInfo | None = None, others: Mapping[str, Provider] | None = None
) -> tuple[Context, ModelInfo]:
    """Analyze `//pkg:made`, a conversion of `//pkg:weights`; environments and other targets are made up."""
    rule = _rule()
    scope = Scope("pkg", lambda path: (Source(f"targets/pkg/{path}"),))
    parsed = rule.attributes.model_validate({"model": ":weights", **attrs}, context=scope)
    tree = Derived("//pkg:checkpoint#Command", "checkpoint/")
    known: dict[Label, Provider] = {
        Label("pkg", "weights"): source or ModelInfo({"weights": tree}, "pkg", "safetensors", tree),
        **{Label.parse(name, "pkg"): provider for name, provider in (others or {}).items()},
    }
    for name in ("convert_llm", "convert_onnx"):
        root = Derived(f"//toolchains:{name}@amd64#Root", "tree/")
        known[Label("toolchains", name)] = EnvironmentInfo({name: root}, "amd64", root)
    deps = {label: (label,) for label in collect(parsed, Label)}
    target = Target(
        Label("pkg", "made"), "convert", parsed, None, deps, folder="/ws/targets/pkg", place="targets/pkg/BUILD.toml:7"
    )
    context = Context(target, {}, PLATFORM, known, ToolVersions({"tree": "1"}), {})
    return context, rule.analyze(context, parsed)


def onnx_model() -> ModelInfo:
    """Make up a model in ONNX."""
    tree = Derived("//pkg:graph#Command", "graph/")
    return ModelInfo({"weights": tree}, "pkg", "onnx", tree)


def _rule() -> Rule:
    return load_rules([RULES], Reader())["convert"]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
