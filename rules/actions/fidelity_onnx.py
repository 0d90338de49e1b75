"""Measures how faithful an exported ONNX model is to its checkpoint; runs in a sandbox."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from rules.actions import divergence, fault, language, onnx_header, safetensors_header
from rules.actions.divergence import Logits


class Converted:
    """The graph in onnxruntime."""

    def __init__(self, file: Path) -> None:
        onnx_header.read_header(file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def logits(self, tokens: Sequence[int]) -> Logits:
        """Give the logits behind each of the tokens."""
        (found,) = self._session.run(["logits"], {"input_ids": np.asarray([tokens], dtype=np.int64)})
        return np.asarray(found[0], dtype=np.float32)


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--original", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--converted", type=Path, required=True, help="folder with model.onnx")
    parser.add_argument("--precision", required=True)
    parser.add_argument("--prompts", type=Path, required=True, help="JSON list of texts")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    safetensors_header.read_folder(args.original)
    prompts = language.read_prompts(args.prompts)
    converted = Converted(args.converted / "model.onnx")
    measured = language.measure(language.Original(args.original), converted, prompts)
    sizes = divergence.sizes(args.original, args.converted, "*.safetensors", "*.onnx*")
    tools = divergence.tools("numpy", "onnx", "onnxruntime", "onnxscript", "torch", "transformers")
    measured |= {"format": "onnx", "precision": args.precision, "size": sizes, "tools": tools}
    divergence.write(args.out, measured)


if __name__ == "__main__":
    fault.run(main)
