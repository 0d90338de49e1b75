"""The ONNX Runtime backend: what it runs, and what it refuses before the library reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

import numpy as np  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from forge_runtime import LoadError, RequestError  # noqa: E402
from forge_runtime.backend import TensorBackend, TensorSpec, TextBackend  # noqa: E402
from forge_runtime.backends.onnxruntime import OnnxBackend, provider_options  # noqa: E402
from forge_runtime.config import ModelConfig, Params  # noqa: E402

WEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4)


def write(folder: Path, *, batch: int | str = "n", external: Mapping[str, str] | None = None) -> Path:
    """Write y = x W; the weights in the file, or where `external` says."""
    folder.mkdir(exist_ok=True)
    tensor = numpy_helper.from_array(WEIGHTS, "w")
    if external is not None:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in external.items():
            tensor.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])],
        [tensor],
    )
    opset = [helper.make_opsetid("", 17)]
    (folder / "model.onnx").write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    )
    return folder


def load(folder: Path, **params: object) -> OnnxBackend:
    backend = OnnxBackend()
    backend.load(ModelConfig("tiny", folder, "onnx"), replace(Params(), **params))  # type: ignore[arg-type]
    return backend


def test_it_runs_the_graph(tmp_path: Path) -> None:
    x = np.ones((2, 3), np.float32)

    outputs = load(write(tmp_path)).run({"x": x})

    assert outputs["y"].tolist() == (x @ WEIGHTS).tolist()


def test_it_names_inputs_and_outputs(tmp_path: Path) -> None:
    backend = load(write(tmp_path), num_threads=1)

    assert backend.signature() == (
        [TensorSpec("x", "float32", (None, 3))],
        [TensorSpec("y", "float32", (None, 4))],
    )
    assert backend.describe() == {
        "backend": "onnxruntime",
        "device": "cpu",
        "threads": 1,
        "inputs": "x float32[?,3]",
        "outputs": "y float32[?,4]",
    }


def test_it_is_a_backend_of_tensors_and_none_of_text(tmp_path: Path) -> None:
    backend = OnnxBackend()

    assert (isinstance(backend, TensorBackend), isinstance(backend, TextBackend)) == (True, False)


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_results_repeat_bit_by_bit(tmp_path: Path, threads: int) -> None:
    backend = load(write(tmp_path), num_threads=threads)
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)

    assert backend.run({"x": x})["y"].tobytes() == backend.run({"x": x})["y"].tobytes()
    assert backend.describe()["threads"] == (threads or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    ("inputs", "param"),
    [
        ({}, "inputs"),
        ({"z": np.ones((2, 3), np.float32)}, "inputs"),
        ({"x": np.ones((2, 3), np.float64)}, "inputs.x"),
        ({"x": np.ones((2, 4), np.float32)}, "inputs.x"),
        ({"x": np.ones(3, np.float32)}, "inputs.x"),
        ({"x": np.array([["a", "b", "c"]])}, "inputs.x"),
    ],
    ids=["none", "name", "dtype", "size", "rank", "text"],
)
def test_inputs_that_it_does_not_take_are_refused(tmp_path: Path, inputs: Mapping[str, np.ndarray], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        load(write(tmp_path)).run(inputs)

    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_there_is_an_error_and_no_silent_fallback(tmp_path: Path, provider: str) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this build has it")
    with pytest.raises(LoadError, match=f"Provider `{provider}` needs .*CUDAExecutionProvider"):
        load(write(tmp_path), provider=provider)


GIB = 2**30
CPU: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, [CPU]),
        ({"provider": "cuda"}, [("CUDAExecutionProvider", {"device_id": "0"}), CPU]),
        (
            {"provider": "cuda", "device_index": 1, "gpu_memory_share": 0.25},
            [("CUDAExecutionProvider", {"device_id": "1", "gpu_mem_limit": str(4 * GIB)}), CPU],
        ),
        (
            {"provider": "tensorrt", "device_index": 1},
            [("TensorrtExecutionProvider", {"device_id": "1"}), ("CUDAExecutionProvider", {"device_id": "1"}), CPU],
        ),
    ],
    ids=["cpu", "cuda", "share", "tensorrt"],
)
def test_the_device_and_its_share_are_options_of_the_provider(params: Mapping[str, object], expected: object) -> None:
    assert expected == provider_options(replace(Params(), **params), [8 * GIB, 16 * GIB])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("params", "memories", "expected"),
    [
        (
            {"provider": "cuda", "device_index": 2},
            [GIB, GIB],
            r"No accelerator `2`, this process sees \[0: 1 GiB, 1: 1 GiB\]",
        ),
        ({"provider": "cuda", "gpu_memory_share": 0.5}, [], "sees no accelerator"),
        ({"device_index": 1}, [], "`cpu` has no use"),
        ({"gpu_memory_share": 0.5}, [GIB], "`cpu` has no use"),
    ],
    ids=["index", "share", "index of the cpu", "share of the cpu"],
)
def test_a_device_that_is_not_there_is_named(params: Mapping[str, object], memories: list[int], expected: str) -> None:
    with pytest.raises(LoadError, match=expected):
        provider_options(replace(Params(), **params), memories)  # type: ignore[arg-type]


def test_data_beside_the_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0" * 16 + WEIGHTS.tobytes())
    entries = {"location": "weights.bin", "offset": "16", "length": str(WEIGHTS.nbytes)}

    outputs = load(write(tmp_path, external=entries)).run({"x": np.ones((1, 3), np.float32)})

    assert outputs["y"].tolist() == [WEIGHTS.sum(axis=0).tolist()]


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin",
        "{folder}/secret.bin",
        "a/../../secret.bin",
        "link.bin",
        "..\\secret.bin",
        "C:\\secret.bin",
        "",
        "none.bin",
    ],
)
def test_data_outside_the_models_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(WEIGHTS.tobytes())
    model = tmp_path / "model"
    model.mkdir()
    (model / "a").mkdir()
    (model / "link.bin").symlink_to(tmp_path / "secret.bin")
    write(model, external={"location": location.format(folder=tmp_path)})

    with pytest.raises(LoadError, match="Tensor 'w' has its data in"):
        load(model)


@pytest.mark.parametrize(
    "entries", [{"offset": "1000"}, {"length": "1000"}, {"offset": "-4"}, {"offset": "x"}], ids=str
)
def test_data_that_is_not_there_in_whole_is_refused(tmp_path: Path, entries: dict[str, str]) -> None:
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    write(tmp_path, external={"location": "weights.bin", **entries})

    with pytest.raises(LoadError, match="Not an ONNX model"):
        load(tmp_path)


def test_data_outside_is_found_in_the_graph_of_an_attribute_too(tmp_path: Path) -> None:
    write(tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    tensor = TensorProto(name="inner", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["q"], ["r"], then_branch=inner, else_branch=inner))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())

    with pytest.raises(LoadError, match="Tensor 'inner' has its data in '/etc/passwd'"):
        load(tmp_path)


def test_every_truncation_is_a_load_error(tmp_path: Path) -> None:
    path = write(tmp_path) / "model.onnx"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(LoadError, match=r"model\.onnx"):
            load(tmp_path)


def test_noise_is_a_load_error(tmp_path: Path) -> None:
    for seed in range(64):
        noise = np.random.default_rng(seed).integers(0, 256, 4096).astype(np.uint8).tobytes()
        (tmp_path / "model.onnx").write_bytes(noise)
        with pytest.raises(LoadError):
            load(tmp_path)


def test_a_missing_folder_and_another_format_are_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="No such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(LoadError, match="Expected weights as `onnx`, got `gguf`"):
        OnnxBackend().load(ModelConfig("tiny", tmp_path, "gguf"), Params())
