"""Measures how faithful a quantised ONNX model is to the one it was made of; runs in a sandbox."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from rules.actions import calibration, divergence, fault, onnx_header
from rules.actions.fault import BadFile


def main() -> None:
    """Run both over the loader's samples and write the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--original", type=Path, required=True, help="folder with model.onnx")
    parser.add_argument("--converted", type=Path, required=True, help="folder with model.onnx")
    parser.add_argument("--precision", required=True)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    calibration.add_arguments(parser)
    args = parser.parse_args()
    first, second = session(args.original / "model.onnx"), session(args.converted / "model.onnx")
    inputs = [each.name for each in first.get_inputs()]
    if inputs != [each.name for each in second.get_inputs()]:
        raise BadFile("The two models take different inputs")
    parts, rows, same, total = [], [], 0, 0
    for number, feed in enumerate(calibration.loader_of(args).feeds(inputs)):
        wanted, found = (np.asarray(each.run(None, feed)[0], dtype=np.float32) for each in (first, second))
        parts.append(divergence.compare(wanted, found))
        best = wanted.argmax(axis=-1) == found.argmax(axis=-1)
        same, total = same + int(best.sum()), total + best.size
        rows.append({"sample": number, **parts[-1].figures(), "top_1": divergence.rounded(float(best.mean()))})
    report = {
        "kind": "tensor",
        "format": "onnx",
        "precision": args.precision,
        "logits": divergence.together(parts).figures(),
        "agreement": {"top_1": divergence.rounded(same / total)},
        "samples": rows,
        "size": divergence.sizes(args.original, args.converted, "*.onnx*", "*.onnx*"),
        "tools": divergence.tools("numpy", "onnx", "onnxruntime"),
    }
    divergence.write(args.out, report)


def session(file: Path) -> Any:
    """Load a model on one thread."""
    onnx_header.read_header(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    fault.run(main)
