"""ONNX Runtime: a graph of tensors, on the CPU or, where that is asked for, on an NVIDIA GPU."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnxruntime  # type: ignore[import-untyped, import-not-found, unused-ignore]
from numpy.typing import NDArray

from forge_runtime.backend import TensorSpec
from forge_runtime.config import ModelConfig, Params, Provider
from forge_runtime.device import check_accelerator, device_memories
from forge_runtime.error import LoadError, RequestError
from forge_runtime.onnx_file import check_file
from forge_runtime.weights import find_file

__all__ = ["OnnxBackend", "create", "provider_options"]

PROVIDERS: Final[Mapping[Provider, tuple[str, ...]]] = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
DTYPES: Final[Mapping[str, str]] = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({name})": name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
}
FATAL: Final = 4
"""Errors are raised as well: logged, they would be lines that are not JSON."""


def create() -> OnnxBackend:
    """Make the backend, for `open_backend`."""
    return OnnxBackend()


class OnnxBackend:
    """One graph and its session."""

    def load(self, model: ModelConfig, params: Params) -> None:
        """Read the one `*.onnx` of the folder, and data beside it."""
        path = find_file(model, "onnx")
        check_file(path)
        providers = PROVIDERS[params.provider]
        missing = [name for name in providers if name not in onnxruntime.get_available_providers()]
        if missing:
            raise LoadError(f"Provider `{params.provider}` needs [{', '.join(missing)}], which this image has not")
        configured = provider_options(params, device_memories() if params.provider != "cpu" else ())
        try:
            self._session = onnxruntime.InferenceSession(path, self._options(params), providers=configured)
        except Exception as error:  # the library's errors have no common base but this
            raise LoadError(f"{path}: {' '.join(str(error).split())}") from error
        started = self._session.get_providers()[0]
        if started != providers[0]:
            # The library takes the next one in silence, and serves ten times slower.
            raise LoadError(f"Provider `{params.provider}` did not start, only `{started}` did")
        self._device = params.provider if params.provider == "cpu" else f"{params.provider}:{params.device_index}"
        self._inputs = [_spec(each, path.name) for each in self._session.get_inputs()]
        self._outputs = [_spec(each, path.name) for each in self._session.get_outputs()]

    def describe(self) -> Mapping[str, str | int]:
        """Say on what the graph runs, and what goes in and out."""
        return {
            "backend": "onnxruntime",
            "device": self._device,
            "threads": self._session.get_session_options().intra_op_num_threads,
            "inputs": ", ".join(map(_shown, self._inputs)),
            "outputs": ", ".join(map(_shown, self._outputs)),
        }

    def signature(self) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
        """Name inputs and outputs."""
        return self._inputs, self._outputs

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the graph once, on exactly the inputs that it declares."""
        names = [spec.name for spec in self._inputs]
        if set(inputs) != set(names):
            raise RequestError(f"Expected inputs [{', '.join(names)}], got [{', '.join(inputs)}]", param="inputs")
        for spec in self._inputs:
            _check(spec, inputs[spec.name])
        outputs = [spec.name for spec in self._outputs]
        # What has a name in two dimensions must agree there: the library says so itself.
        values = self._session.run(outputs, {name: np.ascontiguousarray(inputs[name]) for name in names})
        return dict(zip(outputs, values, strict=True))

    def _options(self, params: Params) -> Any:
        options = onnxruntime.SessionOptions()
        # Said outright, or the library pins threads to cores that a container may not have.
        options.intra_op_num_threads = params.num_threads or len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        options.log_severity_level = FATAL
        return options


def provider_options(params: Params, memories: Sequence[int]) -> list[tuple[str, dict[str, str]]]:
    """Return the providers, best first, each with its options; `memories` are the bytes of each GPU."""
    names = PROVIDERS[params.provider]
    if params.provider == "cpu":
        if params.device_index or params.gpu_memory_share:
            raise LoadError("params.provider: `cpu` has no use for `device_index` and `gpu_memory_share`")
        return [(name, {}) for name in names]
    check_accelerator(params, [f"{size >> 30} GiB" for size in memories])
    device = {"device_id": str(params.device_index)}
    limit = {}
    if params.gpu_memory_share:
        limit["gpu_mem_limit"] = str(int(params.gpu_memory_share * memories[params.device_index]))
    options = {"TensorrtExecutionProvider": device, "CUDAExecutionProvider": {**device, **limit}}
    return [(name, options.get(name, {})) for name in names]


def _spec(argument: Any, file: str) -> TensorSpec:
    if argument.type not in DTYPES:
        raise LoadError(f"{file}: `{argument.name}` is a `{argument.type}`, which is not served")
    shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
    return TensorSpec(argument.name, DTYPES[argument.type], shape)


def _check(spec: TensorSpec, value: NDArray[Any]) -> None:
    fits = value.ndim == len(spec.shape) and all(
        wanted in (None, got) for wanted, got in zip(spec.shape, value.shape, strict=True)
    )
    if not fits or value.dtype.name != spec.dtype:
        got = TensorSpec(spec.name, value.dtype.name, value.shape)
        raise RequestError(f"Expected {_shown(spec)}, got {_shown(got)}", param=f"inputs.{spec.name}")


def _shown(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.dtype}[{','.join('?' if size is None else str(size) for size in spec.shape)}]"
