"""Quantises an ONNX model to int8, statically, with a calibration dataset; runs in a sandbox.

Weights keep to seven bits: some processors add products of eight in sixteen, and would give other results.
onnxruntime chooses its kernels by the processor and cannot be told otherwise, so that ranges differ in their last
bits from one to the next; they are widened to a coarse grid before they become scales, which hides that.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

from rules.actions import calibration, fault, onnx_header
from rules.actions.fault import BadFile, Unsupported

GRID = 64
"""Steps of a range between a power of two and the next."""


class Samples(CalibrationDataReader):  # type: ignore[misc]
    """A loader's batches as onnxruntime wants them."""

    def __init__(self, loader: calibration.Loader, inputs: list[str]) -> None:
        self._feeds = loader.feeds(inputs)

    def get_next(self) -> Any:
        """Give a batch, None at the end."""
        return next(self._feeds, None)


def main() -> None:
    """Check, calibrate, quantise, check."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True, help="folder with model.onnx")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    calibration.add_arguments(parser)
    args = parser.parse_args()
    source = args.model / "model.onnx"
    if not source.is_file():
        raise BadFile("The model has no `model.onnx`")
    header = onnx_header.read_header(source)
    if "QuantizeLinear" in header.operators:
        raise Unsupported("The model is quantised already")
    args.out.mkdir(parents=True, exist_ok=True)
    prepared = Path("/tmp/prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    inputs = [each.name for each in onnxruntime.InferenceSession(str(prepared), options()).get_inputs()]
    ranges = calibrate(prepared, calibration.loader_of(args), inputs)
    out = args.out / "model.onnx"
    quantise(prepared, out, ranges)
    for file in sorted(args.model.iterdir()):
        if file.is_file() and file.name != source.name and file.name not in header.external:
            shutil.copyfile(file, args.out / file.name)
    made = onnx_header.read_header(out)
    if "QuantizeLinear" not in made.operators:
        raise Unsupported("The model has nothing that can be quantised")
    sys.stdout.write(f"{made.nodes} nodes, {out.stat().st_size} bytes\n")


def options() -> onnxruntime.SessionOptions:
    """Make a session's options: one thread."""
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = made.inter_op_num_threads = 1
    made.log_severity_level = 3
    return made


def calibrate(model: Path, loader: calibration.Loader, inputs: list[str]) -> TensorsData:
    """Run the samples and collect each tensor's range, widened."""
    calibrator = create_calibrator(
        model, augmented_model_path="/tmp/augmented.onnx", calibrate_method=CalibrationMethod.MinMax
    )
    calibrator.infer_session = onnxruntime.InferenceSession(
        "/tmp/augmented.onnx", options(), providers=["CPUExecutionProvider"]
    )
    calibrator.collect_data(Samples(loader, inputs))
    found = calibrator.compute_data()
    ranges = {}
    for name, data in found.data.items():
        low, high = (np.asarray(each, dtype=np.float32).reshape(()) for each in data.range_value)
        if not np.isfinite(low) or not np.isfinite(high):
            raise BadFile(f"Calibration finds values in `{name[:80]}` that are not finite")
        ranges[name] = TensorData(lowest=np.float32(-widen(-float(low))), highest=np.float32(widen(float(high))))
    return TensorsData(CalibrationMethod.MinMax, ranges)


def widen(value: float) -> float:
    """Round up to the grid."""
    fraction, exponent = math.frexp(value)
    return math.ldexp(math.ceil(fraction * 2 * GRID) / (2 * GRID), exponent)


def quantise(prepared: Path, out: Path, ranges: TensorsData) -> None:
    """Write the model with pairs of QuantizeLinear and DequantizeLinear around what int8 kernels do."""
    quantizer = QDQQuantizer(
        onnx.load(prepared),
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=list(QDQRegistry),
        extra_options={"WeightSymmetric": True, "ActivationSymmetric": False},
    )
    quantizer.quantize_model()
    size = prepared.stat().st_size
    quantizer.model.save_model_to_file(str(out), use_external_data_format=size >= 1 << 31)


if __name__ == "__main__":
    fault.run(main)
