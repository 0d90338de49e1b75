"""Makes the classifier of //tiny_vision: one convolution, pooling and one linear layer, as ONNX.

The filters are chosen, the linear layer is an averaged perceptron. All of it is learnt in whole numbers, which no
processor adds up in another way, and only the last step rounds to float32: the same bytes on every machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parent))
from shapes import LABELS, SIZE, pictures

OPSET = 17
IR_VERSION = 10
TRAINED_ON = 600
TESTED_ON = 400
EPOCHS = 12
CELL = 4
"""Pixels on a side that are pooled into one feature."""
MARGIN = 8.0
"""Mean distance of the best two logits over the training pictures."""
MIN_ACCURACY = 0.97

Whole = NDArray[np.int64]


def main() -> None:
    """Learn, test, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    filters = make_filters()
    weights, margin = learn(filters, *drawn(TRAINED_ON, seed=1))
    found = accuracy(filters, weights, *drawn(TESTED_ON, seed=2))
    if found < MIN_ACCURACY:
        sys.exit(f"Accuracy {found:.3f} on {TESTED_ON} new pictures, expected {MIN_ACCURACY}")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "model.onnx").write_bytes(model(filters, weights, margin).SerializeToString(deterministic=True))
    sys.stdout.write(f"{found:.3f} right of {TESTED_ON} new pictures\n")


def make_filters() -> Whole:
    """Colours, and edges in four directions: (out, channel, height, width)."""
    flat = [[0, 0, 0], [0, 2, 0], [0, 0, 0]]
    edge = np.array([[1, 1, 1], [0, 0, 0], [-1, -1, -1]])
    slope = np.array([[1, 1, 0], [1, 0, -1], [0, -1, -1]])
    edges = [turned for each in (edge, slope) for turned in (each, each.T, -each, -each.T)]
    edges[5], edges[7] = np.fliplr(slope), -np.fliplr(slope)
    colours = [np.multiply.outer(weights, np.array(flat)) for weights in ((2, -1, -1), (-1, -1, 2))]
    shapes = [np.multiply.outer((1, 0, 1), each) for each in edges]
    return np.array([*colours, *shapes], dtype=np.int64)


def drawn(count: int, seed: int) -> tuple[Whole, Whole]:
    """Draw pictures: classes, and (n, channel, height, width)."""
    kinds, arrays = zip(*pictures(count, seed), strict=True)
    return np.array(kinds, dtype=np.int64), np.array(arrays, dtype=np.int64).transpose(0, 3, 1, 2)


def features(filters: Whole, images: Whole) -> Whole:
    """Convolve, cut off below zero, add up in cells, append a one."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    maps = np.maximum(np.einsum("nchwij,kcij->nkhw", windows, filters), 0)
    cells = SIZE // CELL
    pooled = maps.reshape(len(images), len(filters), cells, CELL, cells, CELL).sum(axis=(3, 5))
    flat: Whole = pooled.reshape(len(images), -1) // 64
    return np.concatenate([flat, np.full((len(images), 1), 64, dtype=np.int64)], axis=1)


def learn(filters: Whole, kinds: Whole, images: Whole) -> tuple[Whole, float]:
    """Train an averaged perceptron; return its weights and the mean margin."""
    inputs = features(filters, images)
    weights = np.zeros((len(LABELS), inputs.shape[1]), dtype=np.int64)
    total = np.zeros_like(weights)
    for _ in range(EPOCHS):
        for row, kind in zip(inputs, kinds, strict=True):
            guess = int(np.argmax(weights @ row))
            if guess != kind:
                weights[kind] += row
                weights[guess] -= row
            total += weights
    total //= len(kinds)
    best = np.sort(inputs @ total.T, axis=1)
    return total, int((best[:, -1] - best[:, -2]).sum()) / len(kinds)


def accuracy(filters: Whole, weights: Whole, kinds: Whole, images: Whole) -> float:
    """Say which share is classified rightly."""
    guesses = np.argmax(features(filters, images) @ weights.T, axis=1)
    return float((guesses == kinds).sum()) / len(kinds)


def model(filters: Whole, weights: Whole, margin: float) -> onnx.ModelProto:
    """Write it down as a graph over pixels from 0 to 1."""
    # A feature is the sum of a cell / 64; the graph averages cells of pixels / 255.
    scale = MARGIN / margin * CELL * CELL * 255 / 64
    linear = (weights[:, :-1] * scale).astype(np.float32)
    bias = (weights[:, -1] * (64 * MARGIN / margin)).astype(np.float32)
    constants = {"filters": filters.astype(np.float32), "weights": linear, "bias": bias}
    nodes = [
        helper.make_node("Conv", ["image", "filters"], ["maps"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("AveragePool", ["active"], ["pooled"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny_vision",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(LABELS)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    made.producer_name = "tiny_vision"
    onnx.checker.check_model(made, full_check=True)
    return made


if __name__ == "__main__":
    main()
