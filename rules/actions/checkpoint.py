"""A Hugging Face checkpoint: its configuration, its tokenizer, its weights one at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rules.actions.fault import BadFile
from rules.actions.safetensors_header import Tensor

MAX_JSON = 256 << 20

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read_json(path: Path) -> dict[str, Any]:
    """Read one of its JSON files; BadFile when it is none."""
    if not path.is_file():
        raise BadFile(f"The model has no `{path.name}`")
    if path.stat().st_size > MAX_JSON:
        raise BadFile(f"`{path.name}` has {path.stat().st_size} bytes")
    try:
        table = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadFile(f"`{path.name}` is not JSON") from error
    if not isinstance(table, dict):
        raise BadFile(f"`{path.name}` is not a JSON object")
    return table


def load(tensor: Tensor) -> npt.NDArray[np.floating[Any]]:
    """Map a tensor into memory; bfloat16, which numpy lacks, becomes float32."""
    if tensor.dtype not in _TYPES:
        raise BadFile(f"Tensor `{tensor.name[:80]}` has the type `{tensor.dtype}`, weights are [{', '.join(_TYPES)}]")
    if not tensor.size:
        return np.zeros(tensor.shape, np.float32)
    data = np.memmap(tensor.file, _TYPES[tensor.dtype], "r", tensor.start, tensor.shape)
    if tensor.dtype == "BF16":
        return (data.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return data


def vocabulary(folder: Path, size: int) -> tuple[list[str], list[bool], list[bool]]:
    """List its tokens by number; whether each is there, and whether it is a control token."""
    tokenizer = read_json(folder / "tokenizer.json")
    model = tokenizer.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
        raise BadFile("`tokenizer.json` is no byte-level BPE, the one kind that is converted yet")
    numbers: dict[str, Any] = dict(model["vocab"])
    special: set[str] = set()
    for added in tokenizer.get("added_tokens") or []:
        if not isinstance(added, dict) or not isinstance(added.get("content"), str):
            raise BadFile("`tokenizer.json` has an added token without `content`")
        numbers[added["content"]] = added.get("id")
        if added.get("special"):
            special.add(added["content"])
    tokens = [f"[PAD{number}]" for number in range(size)]
    there, control = [False] * size, [False] * size
    for token, number in numbers.items():
        if type(number) is not int or not 0 <= number < size:
            raise BadFile(f"`tokenizer.json` gives token `{token[:40]}` the number {number}, the model has {size}")
        tokens[number], there[number], control[number] = token, True, token in special
    return tokens, there, control
