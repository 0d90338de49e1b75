"""Arrays of several requests in one run: what is run together, and that everybody gets their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

np = pytest.importorskip("numpy")

from forge_runtime import RequestError  # noqa: E402
from forge_runtime.backend import TensorSpec  # noqa: E402
from forge_runtime.config import ModelConfig, Params  # noqa: E402
from forge_runtime.tensor import (  # noqa: E402
    Signature,
    TensorRequest,
    batch_key,
    count,
    count_rows,
    infer_batch,
    is_batchable,
    pad,
)


class FakeModel:
    """Works on each row alone: `sum` of `x` times `k`, and `last` of `x`. Refuses a row that has a 13."""

    def __init__(self, batch: int | None = None) -> None:
        self.runs: list[list[float]] = []
        self._batch = batch

    def load(self, model: ModelConfig, params: Params) -> None:
        pass

    def describe(self) -> Mapping[str, str | int]:
        return {}

    def signature(self) -> Signature:
        inputs = [TensorSpec("x", "uint8", (self._batch, None)), TensorSpec("k", "int64", (self._batch,))]
        return inputs, [TensorSpec("sum", "int64", (self._batch,)), TensorSpec("last", "uint8", (self._batch, 1))]

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        x, k = inputs["x"], inputs["k"]
        assert (x.dtype.name, k.dtype.name) == ("uint8", "int64")
        assert len(x) == len(k) == (self._batch or len(x))
        self.runs.append(k.tolist())
        if (x == 13).any():
            raise RequestError("Unlucky")
        if (x == 66).any():
            raise ValueError("evil")
        return {"sum": x.sum(axis=1, dtype=np.int64) * k, "last": x[:, -1:]}


def never() -> bool:
    return False


def asked(
    *keys: int, x: int = 2, outputs: tuple[str, ...] = ("sum",), cancelled: Callable[[], bool] = never
) -> TensorRequest:
    """Ask for a row (x, key) times key, for each key."""
    columns = np.array([[x, key] for key in keys], np.uint8)
    return TensorRequest({"x": columns, "k": np.array(keys)}, outputs, len(keys), cancelled=cancelled)


def run(model: FakeModel, requests: Sequence[TensorRequest], batch_size: int, *, fill: bool = True) -> list[object]:
    """What came of each: its sums, or the text of its refusal."""
    outcomes = infer_batch(model, model.signature(), requests, batch_size, fill=fill)
    return [str(each) if isinstance(each, RequestError) else each["sum"].tolist() for each in outcomes]


@given(
    requests=st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=7), min_size=1, max_size=6),
    batch_size=st.integers(1, 9),
    fixed=st.none() | st.integers(1, 5),
)
def test_however_rows_are_grouped_each_gets_what_it_gets_alone(
    requests: list[list[int]], batch_size: int, fixed: int | None
) -> None:
    model = FakeModel(fixed)
    expected = [[(2 + key) * key for key in keys] for keys in requests]
    lasts = [[[key] for key in keys] for keys in requests]

    wanted = [asked(*keys, outputs=("last", "sum")) for keys in requests]
    outcomes = infer_batch(model, model.signature(), wanted, batch_size)
    found = [each for each in outcomes if not isinstance(each, RequestError)]

    assert expected == [each["sum"].tolist() for each in found]
    assert lasts == [each["last"].tolist() for each in found]
    assert all(list(each) == ["last", "sum"] for each in found)
    assert max(map(len, model.runs)) <= (fixed or batch_size)


@pytest.mark.parametrize(
    ("batch_size", "fixed", "fill", "expected"),
    [
        (8, None, True, [[1, 2, 3, 4, 5]]),
        (2, None, True, [[1, 2], [3, 4], [5]]),
        (1, None, True, [[1], [2], [3], [4], [5]]),
        (1, 4, True, [[1, 2, 3, 4], [5, 0, 0, 0]]),
        (8, 4, True, [[1, 2, 3, 4], [5, 0, 0, 0]]),
        (8, 4, False, [[1, 2, 3, 4], [5, 0, 0, 0]]),
        (2, 4, False, [[1, 2, 0, 0], [3, 4, 0, 0], [5, 0, 0, 0]]),
    ],
)
def test_runs_are_as_large_as_the_batch_or_as_the_model_says(
    batch_size: int, fixed: int | None, fill: bool, expected: list[list[int]]
) -> None:
    model = FakeModel(fixed)

    run(model, [asked(1, 2), asked(3, 4, 5)], batch_size, fill=fill)

    assert expected == model.runs


def test_what_differs_in_shape_or_type_is_run_apart() -> None:
    model = FakeModel()
    wide = TensorRequest({"x": np.ones((1, 5), np.uint8), "k": np.array([9])}, ("sum",), 1)

    assert run(model, [asked(1), wide, asked(2)], 8) == [[3], [45], [8]]
    assert model.runs == [[1, 2], [9]]


def test_what_has_no_rows_is_run_alone_and_whole() -> None:
    model = FakeModel()
    whole = TensorRequest({"x": np.ones((3, 2), np.uint8), "k": np.array([7, 8, 9])}, ("sum",))

    assert run(model, [asked(1), whole, asked(2)], 2) == [[3], [14, 16, 18], [8]]
    assert model.runs == [[1, 2], [7, 8, 9]]


def test_a_refusal_is_of_one_request_and_not_of_those_beside_it() -> None:
    assert run(FakeModel(), [asked(1), asked(2, x=13), asked(3)], 8) == [[3], "Unlucky", [15]]


def test_a_failure_of_the_model_is_raised() -> None:
    with pytest.raises(ValueError, match="evil"):
        run(FakeModel(), [asked(1), asked(2, x=66)], 8)


def test_what_nobody_waits_for_is_not_run() -> None:
    model = FakeModel()

    outcomes = run(model, [asked(1), asked(2, 3, cancelled=lambda: True), asked(4)], 8)

    assert outcomes == [[3], "The client has left", [24]]
    assert model.runs == [[1, 4]]


def test_a_request_that_is_left_while_it_runs_is_run_no_further() -> None:
    model = FakeModel()

    outcomes = run(model, [asked(1, 2, 3, 4, cancelled=lambda: len(model.runs) > 0), asked(5)], 2)

    assert outcomes == ["The client has left", [35]]
    assert model.runs == [[1, 2], [5]]


class Uneven(FakeModel):
    """Gives a row for each even key, whatever its signature says."""

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        outputs = super().run(inputs)
        return {"sum": outputs["sum"][inputs["k"] % 2 == 0]}


def test_results_that_cannot_be_divided_are_given_to_one_request_at_a_time() -> None:
    model = Uneven()

    assert run(model, [asked(1, 2), asked(4), asked(2, 2)], 8) == [[8], [24], [8, 8]]
    assert model.runs == [[1, 2, 4, 2, 2], [1, 2], [4], [2, 2]]


@pytest.mark.parametrize(("fixed", "remedy"), [(None, "send at most 2 rows"), (4, "send exactly 4 rows")])
def test_results_that_cannot_be_joined_are_refused_with_what_would_do(fixed: int | None, remedy: str) -> None:
    (outcome,) = run(Uneven(fixed), [asked(1, 2, 4)], 2)

    assert str(outcome).startswith("Output `sum` is of shape ")
    assert str(outcome).endswith(f"cannot be divided; {remedy}")


def spec(*shape: int | None) -> TensorSpec:
    return TensorSpec("x", "float32", shape)


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        ([spec(None, 3)], [spec(None, 4)], True),
        ([spec(None)], [spec(None)], True),
        ([spec(4, 3), spec(4)], [spec(4, 1), spec(4)], True),
        ([spec(4, 3)], [spec(None, 4)], True),
        ([spec(None, 3), spec(None, 5)], [spec(None)], True),
        ([spec(None, 3)], [spec(1000)], False),
        ([spec(None, 3)], [spec()], False),
        ([spec()], [spec(None)], False),
        ([spec(3, 224, 224)], [spec(1000)], False),
        ([spec(None, 3), spec(5)], [spec(None)], False),
        ([spec(4, 3), spec(None)], [spec(4)], False),
        ([spec(4, 3)], [spec(4), spec(7)], False),
        ([spec(0, 3)], [spec(0)], False),
        ([], [spec(None)], False),
    ],
)
def test_the_first_dimension_is_the_batch_where_all_have_it(
    inputs: list[TensorSpec], outputs: list[TensorSpec], expected: bool
) -> None:
    assert expected is is_batchable((inputs, outputs))


def test_rows_are_counted_where_all_inputs_have_as_many() -> None:
    signature = FakeModel().signature()
    x = np.ones((3, 2), np.uint8)

    assert count_rows(signature, {"x": x, "k": np.arange(3)}) == 3
    assert count_rows(signature, {"x": x, "k": np.arange(4)}) is None
    assert count_rows((signature[0], [spec(7)]), {"x": x, "k": np.arange(3)}) is None


def test_a_request_counts_as_its_rows_and_as_one_where_it_is_run_alone() -> None:
    whole = TensorRequest({"x": np.ones((3, 2), np.uint8)}, ("sum",))

    assert count(asked(1, 2, 3)) == 3
    assert count(whole) == 1
    assert batch_key(whole) is None


def test_keys_are_equal_for_other_rows_and_unequal_for_other_types_and_shapes() -> None:
    one = TensorRequest({"x": np.ones((1, 2), np.float32)}, ("sum",), 1)

    def key(shape: tuple[int, ...], dtype: str) -> object:
        return batch_key(TensorRequest({"x": np.zeros(shape, dtype)}, ("last",), shape[0]))

    assert batch_key(one) == key((5, 2), "float32")
    assert batch_key(one) not in {key((1, 3), "float32"), key((1, 2), "float64"), key((1,), "float32")}


@pytest.mark.parametrize("dtype", ["uint8", "float16", "int64", "bool"])
def test_padding_keeps_the_type(dtype: str) -> None:
    padded = pad(np.ones((2, 3), dtype), 5)

    assert (padded.dtype.name, padded.shape) == (dtype, (5, 3))
    assert padded.sum() == 6
