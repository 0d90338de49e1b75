"""Exports a checkpoint to ONNX; runs in a sandbox.

The graph takes `input_ids` and gives `logits`, batch and length free, without a cache of keys and values.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import onnx
import torch
from transformers import AutoModelForCausalLM

from rules.actions import checkpoint, fault, onnx_header, safetensors_header
from rules.actions.architecture import architecture_of
from rules.actions.fault import BadFile

LARGE = 1 << 30
"""Bytes of weights from which they lie in a file of their own: a protobuf message ends at 2 GiB."""
KEPT = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
"""What a server needs beside the graph."""


class Logits(torch.nn.Module):
    """The model as a function of tokens alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> Any:
        """Give the logits behind each of the tokens."""
        return self.model(input_ids=input_ids, use_cache=False).logits


def main() -> None:
    """Check, export, check."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    architecture_of(checkpoint.read_json(args.model / "config.json"))
    weights = sum(tensor.size for tensor in safetensors_header.read_folder(args.model).values())
    args.out.mkdir(parents=True, exist_ok=True)
    out = args.out / "model.onnx"
    export(args.model, out, external=weights >= LARGE)
    for name in KEPT:
        if (args.model / name).is_file():
            shutil.copyfile(args.model / name, args.out / name)
    header = onnx_header.read_header(out)
    try:
        onnx.checker.check_model(out)
    except onnx.checker.ValidationError as error:
        raise BadFile(f"The exported graph is not valid ONNX: {error}") from error
    sys.stdout.write(f"{header.nodes} nodes, {out.stat().st_size} bytes\n")


def export(model: Path, out: Path, *, external: bool) -> None:
    """Trace the model and write its graph."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa")
    program = torch.onnx.export(
        Logits(loaded.eval()),
        (torch.zeros((2, 8), dtype=torch.int64),),
        dynamo=True,
        input_names=["input_ids"],
        output_names=["logits"],
        dynamic_shapes={"input_ids": {0: "batch", 1: "sequence"}},
        verbose=False,
    )
    if program is None:
        raise BadFile("torch gives no graph")
    # Stack traces of the exporter's files: a third of a small graph, and of no use to whoever loads it.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    for value in program.model.graph.inputs:
        value.metadata_props.clear()
    program.save(str(out), external_data=external)


if __name__ == "__main__":
    fault.run(main)
