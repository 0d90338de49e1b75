"""Converts a checkpoint to GGUF; runs in a sandbox.

What PyPI's `gguf` quantises as llama.cpp's own converter does is written at once; the other precisions are made by
llama.cpp's quantiser out of f32, so that weights are rounded once. One thread, and nothing of the moment in the file.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from rules.actions import checkpoint, fault, gguf_header, safetensors_header
from rules.actions.architecture import Architecture, architecture_of
from rules.actions.fault import BadFile
from rules.actions.safetensors_header import Tensor

WRITTEN = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
"""Precisions that are written at once."""


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor on its way."""

    name: str
    """In GGUF."""
    source: Tensor
    transposed: bool
    type: gguf.GGMLQuantizationType

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape as it is written."""
        return self.source.shape[::-1] if self.transposed else self.source.shape

    @property
    def size(self) -> int:
        """Its bytes as it is written."""
        elements, block = gguf.GGML_QUANT_SIZES[self.type]
        return math.prod(self.shape) // int(elements) * int(block)

    def data(self) -> npt.NDArray[Any]:
        """Load and quantise it."""
        values = checkpoint.load(self.source)
        values = np.ascontiguousarray(values.T if self.transposed else values)
        quantised: npt.NDArray[Any] = gguf.quants.quantize(values.astype(np.float32, copy=False), self.type)
        return quantised


def main() -> None:
    """Check, convert, check."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--name", required=True, help="name that the file gives the model")
    parser.add_argument("--precision", required=True, help="lower-case GGUF name")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    out = args.out / "model.gguf"
    at_once = args.precision in WRITTEN
    raw = out if at_once else Path("/tmp/raw.gguf")
    count = write(args.model, raw, args.name, args.precision if at_once else "f32")
    if not at_once:
        quantise(raw, out, args.precision, args.threads)
        raw.unlink()
    header = gguf_header.read_header(out)
    if len(header.tensors) != count:
        raise BadFile(f"`{out.name}` has {len(header.tensors)} tensors, {count} were put in")
    sys.stdout.write(f"{count} tensors, {out.stat().st_size} bytes\n")


def write(model: Path, out: Path, name: str, precision: str) -> int:
    """Write a checkpoint as GGUF, tensor by tensor; the number of tensors."""
    config = checkpoint.read_json(model / "config.json")
    architecture = architecture_of(config)
    kind = gguf.LlamaFileType[WRITTEN[precision]]
    settings = architecture.parameters(config)
    parts = list(_parts(model, architecture, config, precision))
    writer = gguf.GGUFWriter(out, architecture.name)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    for key, value in settings.items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{architecture.name}.{key}", value)
    inner = config.get("n_inner") or 4 * config["n_embd"]
    writer.add_feed_forward_length(inner)
    writer.add_file_type(kind)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    rows = next(each.shape[0] for each in parts if each.name == "token_embd.weight")
    _add_tokenizer(writer, model, architecture, rows)
    for part in parts:
        writer.add_tensor_info(part.name, part.shape, np.dtype(np.float32), part.size, raw_dtype=part.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for part in parts:
        writer.write_tensor_data(part.data())
    writer.close()
    return len(parts)


def quantise(raw: Path, out: Path, precision: str, threads: int) -> None:
    """Let llama.cpp quantise a file."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread = threads
    params.ftype = gguf.LlamaFileType[f"MOSTLY_{precision.upper()}"].value
    code = llama_cpp.llama_model_quantize(bytes(raw), bytes(out), params)
    if code or not out.is_file():
        raise BadFile(f"llama.cpp cannot quantise this model to `{precision}`: code {code}")


def _parts(model: Path, architecture: Architecture, config: dict[str, Any], precision: str) -> Iterator[Part]:
    tensors = safetensors_header.read_folder(model)
    tied = config.get("tie_word_embeddings", True)
    names: set[str] = set()
    for tensor in tensors.values():
        name, transposed = architecture.rename(tensor.name)
        # Tied checkpoints may hold the embedding twice; llama.cpp takes it for the output where there is none.
        if not name or (name == "output.weight" and tied):
            continue
        if name in names:
            raise BadFile(f"Two tensors of the checkpoint are `{name}`")
        names.add(name)
        yield Part(name, tensor, transposed, _type(architecture, name, tensor, precision))
    expected = {f"blk.{block}.attn_qkv.weight" for block in range(int(config["n_layer"]))} | {"token_embd.weight"}
    if missing := sorted(expected - names):
        raise BadFile(f"The checkpoint lacks `{missing[0]}`" + (f" and {len(missing) - 1} more" if missing[1:] else ""))


def _type(architecture: Architecture, name: str, tensor: Tensor, precision: str) -> gguf.GGMLQuantizationType:
    """Norms, biases and positions stay f32, as llama.cpp's own converter has it."""
    if len(tensor.shape) < 2 or name in architecture.exact or not name.endswith(".weight"):
        return gguf.GGMLQuantizationType.F32
    wanted = gguf.GGMLQuantizationType[precision.upper()]
    row = tensor.shape[0] if architecture.rename(tensor.name)[1] else tensor.shape[-1]
    if row % gguf.GGML_QUANT_SIZES[wanted][0]:
        return gguf.GGMLQuantizationType.F16
    return wanted


def _add_tokenizer(writer: gguf.GGUFWriter, model: Path, architecture: Architecture, size: int) -> None:
    tokens, there, control = checkpoint.vocabulary(model, size)
    kinds = [
        gguf.TokenType.UNUSED if not here else gguf.TokenType.CONTROL if special else gguf.TokenType.NORMAL
        for here, special in zip(there, control, strict=True)
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(architecture.pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    gguf.SpecialVocab(model, load_merges=True, n_vocab=size).add_to_gguf(writer, quiet=True)


if __name__ == "__main__":
    fault.run(main)
