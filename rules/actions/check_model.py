"""Checks a model's files by their headers, before a library opens them; leaves an empty folder when they are sound."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from rules.actions import gguf_header, onnx_header, safetensors_header
from rules.actions.fault import BadFile, run

MAX_INDEX = 64 << 20
_READERS: Mapping[str, Callable[[Path], object]] = {
    ".safetensors": safetensors_header.read_header,
    ".gguf": gguf_header.read_header,
    ".onnx": onnx_header.read_header,
}
_INDEX = ".safetensors.index.json"
_PICKLED = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


def check_model(folder: Path, form: str, pickles: Collection[str]) -> None:
    """Check every file of a model in the format `form`; BadFile names the first that is not what its name says."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    for name, path in files.items():
        reader = _READERS.get(path.suffix.lower())
        if reader is not None:
            reader(path)
        elif name.endswith(_INDEX):
            _check_index(path)
        elif name not in pickles and _is_pickled(path):
            raise BadFile(f"`{name}` is a pickle by its first bytes, whatever its name says")
    if form == "safetensors":
        safetensors_header.read_folder(folder)
    elif f".{form}" in _READERS and f"model.{form}" not in files:
        raise BadFile(f"The model has no `model.{form}`")


def _check_index(path: Path) -> None:
    """An index says which file has which tensor: each is beside it, and has the tensor."""
    if path.stat().st_size > MAX_INDEX:
        raise BadFile(f"`{path.name}` has {path.stat().st_size} bytes, an index has no more than {MAX_INDEX}")
    try:
        table = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadFile(f"`{path.name}` is not JSON") from error
    weights: Any = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights.values()):
        raise BadFile(f"`{path.name}` has no `weight_map` of tensors to files")
    for name in sorted(set(weights.values())):
        beside = path.parent / name
        if "/" in name or not name.endswith(".safetensors") or not beside.is_file():
            raise BadFile(f"`{path.name}` names the file `{name[:120]}`, which is not beside it")
        there = safetensors_header.read_header(beside)
        lost = next((tensor for tensor, file in weights.items() if file == name and tensor not in there), None)
        if lost is not None:
            raise BadFile(f"`{path.name}` says that `{name}` has the tensor `{lost[:80]}`, and it has not")


def _is_pickled(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.read(4)
    # A pickle of protocol 2 or newer says so; torch has put its own into a zip since 1.6.
    return first.startswith(_PICKLED)


def main() -> None:
    """Check the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder with the model's files")
    parser.add_argument("--format", required=True)
    parser.add_argument("--allow-pickle", action="append", default=[], metavar="NAME")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    args = parser.parse_args()
    check_model(args.model, args.format, args.allow_pickle)
    args.out.mkdir(parents=True, exist_ok=True)


if __name__ == "__main__":
    run(main)
