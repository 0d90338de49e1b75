"""The Open Inference Protocol over HTTP, by Triton's own client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from forge_runtime import Lifecycle
from forge_runtime.backend import TensorBackend, TensorSpec
from forge_runtime.config import ModelConfig, Params
from tests.runtime.fake import Client, make_config, serving

MODEL = "tiny"


class TensorFake:
    """Gives each row's sum, and the row doubled."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def load(self, model: ModelConfig, params: Params) -> None:
        pass

    def describe(self) -> Mapping[str, str | int]:
        return {"backend": "fake"}

    def signature(self) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
        outputs = [TensorSpec("sum", "float32", (None,)), TensorSpec("double", "float32", (None, 3))]
        return [TensorSpec("x", "float32", (None, 3))], outputs

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        x = inputs["x"]
        self.batches.append(len(x))
        if np.isinf(x).any():
            raise ValueError("on purpose")
        return {"sum": x.sum(axis=1), "double": x * 2}


class Tensors(Lifecycle[bytes, bytes]):
    """Serves the model's tensors, and bytes as they are."""

    needs = TensorBackend

    def decode(self, body: bytes, content_type: str) -> bytes:
        return body

    def infer(self, request: bytes) -> bytes:
        return request

    def postprocess(self, request: bytes, results: bytes) -> object:
        return len(results)


@pytest.fixture(scope="module")
def backend() -> TensorFake:
    return TensorFake()


@pytest.fixture(scope="module")
def client(backend: TensorFake) -> Iterator[Client]:
    config = make_config(params=Params(batch_size=8, batch_wait_ms=100))
    with serving(backend, config, handler=Tensors) as client:
        yield client


@pytest.fixture(scope="module")
def connect(client: Client) -> Iterator[Callable[[], Any]]:
    opened: list[Any] = []

    def connect() -> Any:
        opened.append(triton.InferenceServerClient(f"127.0.0.1:{client.port}"))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()


def rows(count: int, first: float = 0) -> NDArray[Any]:
    return np.arange(first, first + count * 3, dtype=np.float32).reshape(count, 3)


def infer(api: Any, x: NDArray[Any], *, binary: bool = True) -> tuple[NDArray[Any], NDArray[Any]]:
    given = triton.InferInput("x", list(x.shape), "FP32")
    given.set_data_from_numpy(x, binary_data=binary)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("sum", "double")]
    answer = api.infer(MODEL, [given], outputs=wanted)
    return answer.as_numpy("sum"), answer.as_numpy("double")


def test_the_server_and_its_model_are_ready(connect: Callable[[], Any]) -> None:
    api = connect()

    assert api.is_server_live()
    assert api.is_server_ready()
    assert api.is_model_ready(MODEL)
    assert "binary_tensor_data" in api.get_server_metadata()["extensions"]


def test_the_model_says_what_it_takes(connect: Callable[[], Any]) -> None:
    metadata = connect().get_model_metadata(MODEL)

    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert [output["name"] for output in metadata["outputs"]] == ["sum", "double"]


@pytest.mark.parametrize("binary", [True, False])
def test_tensors_are_answered(connect: Callable[[], Any], binary: bool) -> None:
    x = rows(2)

    total, double = infer(connect(), x, binary=binary)

    assert np.array_equal(total, x.sum(axis=1))
    assert np.array_equal(double, x * 2)


def test_requests_share_a_run_and_get_their_own_rows(client: Client, backend: TensorFake) -> None:
    def ask(number: int) -> bool:
        api = triton.InferenceServerClient(f"127.0.0.1:{client.port}")
        x = rows(number % 3 + 1, first=number)
        total, double = infer(api, x)
        api.close()
        return np.array_equal(total, x.sum(axis=1)) and np.array_equal(double, x * 2)

    before = len(backend.batches)
    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(ask, range(12)))

    assert len(backend.batches) - before < 12
    assert max(backend.batches) <= 8


@pytest.mark.parametrize(("model", "version"), [("other", ""), (MODEL, "2")])
def test_another_model_is_not_there(connect: Callable[[], Any], model: str, version: str) -> None:
    with pytest.raises(InferenceServerException, match="There is no model"):
        connect().get_model_metadata(model, version)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"inputs": []}',
        b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1]}]}',
    ],
)
def test_a_wrong_body_is_refused_in_the_protocols_form(client: Client, body: bytes) -> None:
    reply = client.send("POST", f"/v2/models/{MODEL}/infer", body)

    assert reply.status == 400
    assert set(json.loads(reply.body)) == {"error"}


def test_a_model_that_fails_is_a_500_and_the_next_request_is_served(connect: Callable[[], Any]) -> None:
    api = connect()

    with pytest.raises(InferenceServerException, match="Step `infer` failed"):
        infer(api, np.full((1, 3), np.inf, np.float32))

    assert infer(api, rows(1))[0].shape == (1,)
