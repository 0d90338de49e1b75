"""A fetched model before anything else reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rules.actions.check_model import MAX_INDEX, check_model
from rules.actions.fault import BadFile
from tests.convert.sample import onnx, safetensors, whole_gguf, whole_safetensors

WEIGHTS = {"model.safetensors": whole_safetensors()}
OTHER = safetensors({"b": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"x")
SHARDS = {"a.safetensors": whole_safetensors(), "b.safetensors": OTHER}
TENSORS = {"wte.weight": "a.safetensors", "wpe.weight": "a.safetensors", "b": "b.safetensors"}


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def index(weights: Any) -> dict[str, bytes]:
    return {"model.safetensors.index.json": json.dumps({"metadata": {}, "weight_map": weights}).encode()}


@pytest.mark.parametrize(
    ("form", "files"),
    [
        ("safetensors", {**WEIGHTS, "config.json": b"{}", "tokenizer.model": b"\x0a\x05<unk>"}),
        ("safetensors", {**SHARDS, **index(TENSORS)}),
        ("gguf", {"model.gguf": whole_gguf()}),
        ("onnx", {"model.onnx": onnx(location="data"), "data": b"1234"}),
        ("tensorrt", {"rank0.engine": b"anything"}),
        ("safetensors", {**WEIGHTS, "a.bin": b"\x80\x02."}),
    ],
    ids=["whole", "shards", "gguf", "onnx", "engine", "allowed pickle"],
)
def test_a_sound_model_passes(tmp_path: Path, form: str, files: dict[str, bytes]) -> None:
    check_model(folder(tmp_path, files), form, ["a.bin"])


@pytest.mark.parametrize(
    ("form", "files", "fault"),
    [
        ("safetensors", {"config.json": b"{}"}, "The model has no weights in `*.safetensors`"),
        ("gguf", WEIGHTS, "The model has no `model.gguf`"),
        ("onnx", {"m.onnx": onnx()}, "The model has no `model.onnx`"),
        ("safetensors", {**WEIGHTS, "sub/x.SAFETENSORS": b"hi"}, "`x.SAFETENSORS` is no safetensors file"),
        ("safetensors", {**WEIGHTS, "x.gguf": b"GGUX" * 9}, "`x.gguf` is no GGUF file"),
        ("safetensors", {**WEIGHTS, "model.bin": b"\x80\x04\x95"}, "`model.bin` is a pickle by its first bytes"),
        ("safetensors", {**WEIGHTS, "sub/vocab.txt": b"PK\x03\x04"}, "`sub/vocab.txt` is a pickle by its first bytes"),
        ("onnx", {"model.onnx": onnx(location="../../etc/shadow")}, "`../../etc/shadow`, outside the model's folder"),
        ("onnx", {"model.onnx": onnx(location="/etc/shadow")}, "`/etc/shadow`, outside the model's folder"),
        ("safetensors", {**SHARDS, **index({"b": "../b.safetensors"})}, "names the file `../b.safetensors`"),
        (
            "safetensors",
            {**SHARDS, **{f"sub/{name}": data for name, data in index({"b": "../b.safetensors"}).items()}},
            "names the file `../b.safetensors`, which is not beside it",
        ),
        ("safetensors", {**SHARDS, **index({"b": "c.safetensors"})}, "`c.safetensors`, which is not beside it"),
        ("safetensors", {**SHARDS, **index({"c": "b.safetensors"})}, "has the tensor `c`, and it has not"),
        ("safetensors", {**SHARDS, **index({"b": 1})}, "has no `weight_map`"),
        ("safetensors", {**SHARDS, **index([])}, "has no `weight_map`"),
        ("safetensors", {**SHARDS, "x.safetensors.index.json": b"[" * 100_000}, "is not JSON"),
        ("safetensors", {**WEIGHTS, "b.safetensors": whole_safetensors()}, "is in `b.safetensors` and in"),
    ],
)
def test_a_model_that_lies_is_refused_by_the_name_of_its_file(
    tmp_path: Path, form: str, files: dict[str, bytes], fault: str
) -> None:
    with pytest.raises(BadFile) as caught:
        check_model(folder(tmp_path, files), form, [])

    assert fault in str(caught.value)


def test_an_index_that_no_model_needs_is_not_read(tmp_path: Path) -> None:
    with (folder(tmp_path, SHARDS) / "x.safetensors.index.json").open("wb") as file:
        file.truncate(MAX_INDEX + 1)

    with pytest.raises(BadFile, match="an index has no more than"):
        check_model(tmp_path, "safetensors", [])
