"""The Open Inference Protocol's bytes: what its official client sends and reads, and what nobody should send."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")

from forge_runtime import RequestError  # noqa: E402
from forge_runtime.backend import TensorSpec  # noqa: E402
from forge_runtime.http.oip import TensorRequest, encode, error_body, metadata, parse, server_metadata  # noqa: E402

LENGTH = "inference-header-content-length"
X = TensorSpec("x", "float32", (None, 3))
K = TensorSpec("k", "uint8", (None,))
INPUTS = (X, K)
OUTPUTS = (TensorSpec("y", "float32", (None, 2)), TensorSpec("z", "int64", (None,)))
TYPES = {
    "BOOL": "bool",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}


def tensor(name: str = "x", shape: object = (2, 3), datatype: str = "FP32", **rest: object) -> dict[str, object]:
    return {"name": name, "shape": shape, "datatype": datatype, **rest}


def request(**changes: object) -> dict[str, object]:
    """A request as JSON, for X and K."""
    inputs = [tensor(data=[1, 2, 3, 4, 5, 6]), tensor("k", [2], "UINT8", data=[7, 8])]
    return {"inputs": inputs, **changes}


def read(
    value: object,
    tail: bytes | None = None,
    inputs: Sequence[TensorSpec] = INPUTS,
    outputs: Sequence[TensorSpec] = OUTPUTS,
) -> TensorRequest:
    """Parse a JSON value, with bytes behind it."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    headers = {} if tail is None else {LENGTH: str(len(text))}
    return parse(text + (tail or b""), headers, inputs, outputs)


def read_one(spec: TensorSpec, datatype: str, data: object) -> Any:
    """Parse one input."""
    value = {"inputs": [tensor(spec.name, list(spec.shape), datatype, data=data)]}
    return read(value, inputs=[spec], outputs=[TensorSpec("y", "float32", ())]).inputs[spec.name]


def values(dtype: str) -> Any:
    """A value of each corner of a type, (2, 3)."""
    corners: list[Any]
    if dtype == "bool":
        corners = [True, False, True, True, False, False]
    elif dtype.startswith("float"):
        corners = [0.1, -0.0, 1e-7, np.finfo(dtype).max, np.finfo(dtype).min, 3]
    else:
        corners = [np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1, 2, 3]
    return np.array(corners, dtype).reshape(2, 3)


@pytest.fixture(scope="module")
def triton() -> Any:
    """The official client, that writes requests and reads answers without a server too."""
    return pytest.importorskip("tritonclient.http")


def result_of(triton: Any, body: bytes, headers: Mapping[str, str]) -> Any:
    length = headers.get(LENGTH)
    return triton.InferenceServerClient.parse_response_body(body, header_length=None if length is None else int(length))


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("datatype", TYPES)
def test_what_the_official_client_sends_is_read_and_what_is_answered_it_reads(
    triton: Any, datatype: str, binary: bool
) -> None:
    array = values(TYPES[datatype])
    spec = TensorSpec("x", TYPES[datatype], (None, 3))
    sent = triton.InferInput("x", [2, 3], datatype).set_data_from_numpy(array, binary_data=binary)
    wanted = [triton.InferRequestedOutput("y", binary_data=binary)]
    body, length = triton.InferenceServerClient.generate_request_body([sent], wanted, request_id="7")
    headers = {} if length is None else {LENGTH: str(length)}

    asked = parse(body, headers, [spec], [TensorSpec("y", TYPES[datatype], (None, 3))])
    answer, about = encode(asked, {"y": asked.inputs["x"]}, model_name="m", model_version="1")
    result = result_of(triton, answer, about)

    assert (asked.inputs["x"].dtype, asked.inputs["x"].tolist()) == (array.dtype, array.tolist())
    assert (result.as_numpy("y").dtype, result.as_numpy("y").tolist()) == (array.dtype, array.tolist())
    assert (LENGTH in about) is binary
    assert result.get_response()["id"] == "7"


def test_the_official_client_gets_all_outputs_as_bytes_where_it_names_none(triton: Any) -> None:
    x, k = np.ones((1, 3), np.float32), np.array([9], np.uint8)
    sent = [
        triton.InferInput("k", [1], "UINT8").set_data_from_numpy(k),
        triton.InferInput("x", [1, 3], "FP32").set_data_from_numpy(x),
    ]
    body, length = triton.InferenceServerClient.generate_request_body(sent)

    asked = parse(body, {LENGTH: str(length)}, INPUTS, OUTPUTS)
    y, z = np.array([[np.nan, np.inf]], np.float32), np.array([2**60])
    result = result_of(triton, *encode(asked, {"z": z, "y": y}, model_name="m", model_version="1"))

    assert {name: array.tolist() for name, array in asked.inputs.items()} == {"k": [9], "x": [[1, 1, 1]]}
    assert str(result.as_numpy("y").tolist()) == "[[nan, inf]]"
    assert result.as_numpy("z").tolist() == [2**60]


@pytest.mark.parametrize(("extension", "what"), [("sequence", "sequences"), ("class", "classes"), ("shared", "shared")])
def test_extensions_that_are_not_served_are_refused_by_name(triton: Any, extension: str, what: str) -> None:
    sent = triton.InferInput("x", [1, 3], "FP32").set_data_from_numpy(np.ones((1, 3), np.float32))
    output = triton.InferRequestedOutput("y", class_count=3 if extension == "class" else 0)
    if extension == "shared":
        output.set_shared_memory("region", 16)
    body, length = triton.InferenceServerClient.generate_request_body(
        [sent], [output], sequence_id=5 if extension == "sequence" else 0
    )

    with pytest.raises(RequestError, match=f"The extension of {what}.* is not served"):
        parse(body, {LENGTH: str(length)}, [X], OUTPUTS)


def test_json_and_bytes_may_be_mixed() -> None:
    value = request(
        id="é\ud800",
        inputs=[
            tensor("k", [2], "UINT8", parameters={"binary_data_size": 2}),
            tensor(data=[[1, 2.5, 3], [4, 5, -6e-3]]),
        ],
        outputs=[{"name": "z"}, {"name": "y", "parameters": {"binary_data": True}}],
    )

    asked = read(value, b"\x07\xff")

    assert asked.inputs["k"].tolist() == [7, 255]
    assert asked.inputs["x"].tolist() == np.array([[1, 2.5, 3], [4, 5, -6e-3]], np.float32).tolist()
    assert (asked.outputs, asked.binary, asked.id, asked.rows) == (("z", "y"), frozenset({"y"}), "é\ud800", 2)


def test_an_answer_holds_json_and_then_bytes() -> None:
    asked = read(request(id="a", outputs=[{"name": "z"}, {"name": "y", "parameters": {"binary_data": True}}]))
    outputs = {"y": np.array([[1, 2], [3, 4]], np.float32).T, "z": np.array([5, 6])}

    body, headers = encode(asked, outputs, model_name="m", model_version="1")

    length = int(headers[LENGTH])
    assert headers == {"content-type": "application/octet-stream", LENGTH: str(length)}
    assert json.loads(body[:length]) == {
        "model_name": "m",
        "model_version": "1",
        "id": "a",
        "outputs": [
            {"name": "z", "datatype": "INT64", "shape": [2], "data": [5, 6]},
            {"name": "y", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}},
        ],
    }
    assert np.frombuffer(body[length:], "<f4").tolist() == [1, 3, 2, 4]


def test_an_answer_without_bytes_is_json() -> None:
    asked = read(request())

    body, headers = encode(
        asked, {"y": np.zeros((0, 2), np.float32), "z": np.array([5])}, model_name="m", model_version="1"
    )

    assert headers == {"content-type": "application/json"}
    assert json.loads(body)["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [0, 2], "data": []},
        {"name": "z", "datatype": "INT64", "shape": [1], "data": [5]},
    ]


@pytest.mark.parametrize(
    "extra",
    [
        {"id": None, "parameters": None, "outputs": None},
        {"outputs": []},
        {"model_name": "m", "model_version": "1"},
        {"parameters": {"priority": 1, "timeout": 5, "content_type": "np", "mine": {}}},
    ],
)
def test_what_changes_nothing_is_passed_over(extra: dict[str, object]) -> None:
    asked = read(request(**extra))

    assert (asked.outputs, asked.binary, asked.id) == (("y", "z"), frozenset(), None)


@pytest.mark.parametrize(
    ("parameters", "outputs", "expected"),
    [
        ({}, None, set()),
        ({"binary_data_output": True}, None, {"y", "z"}),
        ({"binary_data_output": True}, [{"name": "y"}], {"y"}),
        ({"binary_data_output": True}, [{"name": "y", "parameters": {"binary_data": False}}, {"name": "z"}], {"z"}),
        ({"binary_data_output": False}, [{"name": "y", "parameters": {"binary_data": True}}, {"name": "z"}], {"y"}),
    ],
)
def test_an_outputs_own_wish_for_bytes_comes_before_the_requests(
    parameters: object, outputs: object, expected: set[str]
) -> None:
    assert read(request(parameters=parameters, outputs=outputs)).binary == expected


@pytest.mark.parametrize(
    ("first", "shapes", "rows"),
    [
        ((None, None), ([2, 3], [2]), 2),
        ((None, None), ([2, 3], [1]), None),
        ((4, 4), ([2, 3], [2]), 2),
        ((4, 4), ([9, 3], [9]), 9),
        ((4, 4), ([4, 3], [4]), 4),
        ((None, 4), ([2, 3], [4]), None),
    ],
)
def test_rows_are_the_batch_where_the_model_has_one(
    first: tuple[int | None, int | None], shapes: tuple[list[int], list[int]], rows: int | None
) -> None:
    specs = [TensorSpec("x", "float32", (first[0], 3)), TensorSpec("k", "uint8", (first[1],))]
    value = {
        "inputs": [
            tensor("x", shapes[0], data=[0] * (3 * shapes[0][0])),
            tensor("k", shapes[1], "UINT8", data=[0] * shapes[1][0]),
        ]
    }

    assert rows == read(value, inputs=specs, outputs=[TensorSpec("y", "float32", (first[0],))]).rows


def test_arrays_can_be_written_to_and_are_aligned() -> None:
    value = {"inputs": [tensor(shape=[1, 3], parameters={"binary_data_size": 12})]}
    text = json.dumps(value).encode()
    text += b" " * (1 - len(text) % 2)  # an odd address

    array = read(text, bytes(12), inputs=[X]).inputs["x"]

    assert array.flags.writeable
    assert array.flags.aligned


SCALAR = TensorSpec("x", "float32", ())


def test_a_scalar_is_one_element() -> None:
    assert read_one(SCALAR, "FP32", [2]).tolist() == 2


NESTED = TensorSpec("x", "int8", (2, 1, 2))
EMPTY = TensorSpec("x", "int8", (2, 0))


@pytest.mark.parametrize(
    ("spec", "data"),
    [(NESTED, [1, 2, 3, 4]), (NESTED, [[[1, 2]], [[3, 4]]]), (EMPTY, []), (EMPTY, [[], []])],
)
def test_data_is_flat_or_nested(spec: TensorSpec, data: object) -> None:
    array = read_one(spec, "INT8", data)

    assert array.shape == spec.shape
    assert array.ravel().tolist() == [1, 2, 3, 4][: array.size]


@pytest.mark.parametrize(
    "data",
    [
        [[[1, 2]], [[3]]],
        [[[1, 2], [3, 4]]],
        [[1, 2], [3, 4]],
        [[1, 2, 3, 4]],
        [[[1, 2]], 3],
        [[[[1], [2]]], [[[3], [4]]]],
        [1, [2], 3, 4],
        [1, 2, 3],
        [1, 2, 3, 4, 5],
        [],
        {},
        "AQIDBA==",
        1,
        True,
    ],
)
def test_data_of_another_shape_is_refused(data: object) -> None:
    with pytest.raises(RequestError, match="^inputs.0.data: Expected") as caught:
        read_one(NESTED, "INT8", data)

    assert (caught.value.status, caught.value.param) == (400, "inputs.0.data")


@pytest.mark.parametrize(
    ("datatype", "text", "fault"),
    [
        ("UINT8", "300", "Expected a whole number from 0 to 255 as element 1, got `300`"),
        ("UINT8", "-1", "Expected a whole number from 0 to 255 as element 1, got `-1`"),
        ("INT64", str(2**63), f"got `{2**63}`"),
        ("UINT64", "9" * 4000, "got a huge number"),
        ("INT32", "1.5", "Expected a whole number as element 1, got `1.5`"),
        ("INT32", "1.0", "got `1.0`"),
        ("INT32", "1e300", "got `1e[+]300`"),
        ("INT32", "true", "got `true`"),
        ("INT32", "null", "got `null`"),
        ("INT32", '"1"', 'got `"1"`'),
        ("INT32", '"\\ud800"', r"got `\"\\ud800\"`"),
        ("INT32", "{}", "got an object"),
        ("BOOL", "1", "Expected true or false as element 1, got `1`"),
        ("BOOL", '"true"', "got `"),
        ("FP32", "true", "Expected a number as element 1, got `true`"),
        ("FP32", '"NaN"', 'got `"NaN"`'),
        ("FP32", "1e39", "Expected a number up to 3.40282e[+]38 as element 1, got `1e[+]39`"),
        ("FP64", "1e400", "got `Infinity`"),
        ("FP64", "1" + "0" * 400, "got a huge number"),
        ("FP16", "65520", "Expected a number up to 65504 as element 1, got `65520`"),
        ("FP16", "-1e9", "got `-1000000000.0`"),
    ],
)
def test_what_a_type_cannot_hold_is_refused(datatype: str, text: str, fault: str) -> None:
    good = "true" if datatype == "BOOL" else "0"
    body = json.dumps({"inputs": [tensor(shape=[2], datatype=datatype, data="?")]}).replace('"?"', f"[{good}, {text}]")

    with pytest.raises(RequestError, match=fault) as caught:
        read(body.encode(), inputs=[TensorSpec("x", TYPES[datatype], (None,))])

    assert (caught.value.status, caught.value.param) == (400, "inputs.0.data")


def changed(*path: object, to: object) -> dict[str, object]:
    """The good request with another value at a place; None takes it away."""
    value: Any = request(outputs=[{"name": "y"}, {"name": "z"}])
    at = value
    for key in path[:-1]:
        at = at[key]
    if to is None:
        del at[path[-1]]
    else:
        at[path[-1]] = to
    return dict(value)


REFUSED = {
    "no object": ([], "top level", "Expected an object, got an array"),
    "unknown key": ({**request(), "input": 1}, "input", "Unknown key; did you mean `inputs`"),
    "id": (request(id=5), "id", "Expected a string"),
    "parameters": (request(parameters=[]), "parameters", "Expected an object"),
    "binary_data_output": (request(parameters={"binary_data_output": 1}), "parameters.binary_data_output", "true or"),
    "sequences": (request(parameters={"sequence_id": 1}), "parameters.sequence_id", "not served"),
    "no inputs": ({}, "inputs", "Expected a list of tensors"),
    "empty inputs": ({"inputs": []}, "inputs", "Expected a list of tensors"),
    "inputs by name": ({"inputs": {"x": [1]}}, "inputs", "Expected a list of tensors"),
    "input is text": ({"inputs": ["x"]}, "inputs.0", "Expected an object"),
    "missing input": ({"inputs": [request()["inputs"][0]]}, "inputs", "Missing \\[k\\]"),  # type: ignore[index]
    "input twice": ({"inputs": [request()["inputs"][0]] * 2}, "inputs.1.name", "`x` is there twice"),  # type: ignore[index]
    "unknown input": (changed("inputs", 1, "name", to="w" * 99), "inputs.1.name", "The model has no 'w{40}'; known"),
    "no name": (changed("inputs", 1, "name", to=None), "inputs.1.name", "Missing"),
    "name is a number": (changed("inputs", 1, "name", to=1), "inputs.1.name", "Expected a string"),
    "no shape": (changed("inputs", 0, "shape", to=None), "inputs.0.shape", "Missing"),
    "no datatype": (changed("inputs", 0, "datatype", to=None), "inputs.0.datatype", "Missing"),
    "wrong datatype": (
        changed("inputs", 0, "datatype", to="FP64"),
        "inputs.0.datatype",
        "Expected `FP32` for `x`, got",
    ),
    "numpy's name": (changed("inputs", 0, "datatype", to="float32"), "inputs.0.datatype", "Unknown datatype 'float32'"),
    "bf16": (changed("inputs", 0, "datatype", to="BF16"), "inputs.0.datatype", "`BF16` is not served: numpy has"),
    "strings": (changed("inputs", 0, "datatype", to="BYTES"), "inputs.0.datatype", "`BYTES` is not served: no backend"),
    "rank": (changed("inputs", 0, "shape", to=[6]), "inputs.0.shape", "Expected \\[-1, 3\\] for `x`, .* got \\[6\\]"),
    "other shape": (changed("inputs", 0, "shape", to=[3, 2]), "inputs.0.shape", "got \\[3, 2\\]"),
    "long shape": (changed("inputs", 0, "shape", to=[1] * 5000), "inputs.0.shape", "got \\[1, "),
    "shape is a number": (changed("inputs", 1, "shape", to=2), "inputs.1.shape", "Expected a list of whole numbers"),
    "negative": (changed("inputs", 1, "shape", to=[-2]), "inputs.1.shape", "none below 0"),
    "any size": (changed("inputs", 1, "shape", to=[-1]), "inputs.1.shape", "none below 0"),
    "half a size": (changed("inputs", 1, "shape", to=[2.0]), "inputs.1.shape", "Expected a list of whole numbers"),
    "true size": (changed("inputs", 1, "shape", to=[True]), "inputs.1.shape", "Expected a list of whole numbers"),
    "huge size": (changed("inputs", 1, "shape", to=[2**64]), "inputs.1.shape", "at most 2147483647 elements"),
    "no rows": (changed("inputs", 1, "shape", to=[0]), "inputs.1.shape.0", "Expected at least one row"),
    "too many rows": (changed("inputs", 1, "shape", to=[2**31 - 1]), "inputs.1.data", "Expected 2147483647 elements"),
    "no data": (changed("inputs", 1, "data", to=None), "inputs.1", "Expected either `data` or"),
    "data and bytes": (
        changed("inputs", 1, "parameters", to={"binary_data_size": 2}),
        "inputs.1",
        "Expected either `data` or",
    ),
    "unknown key of an input": (changed("inputs", 1, "dtype", to=1), "inputs.1.dtype", "Unknown key; did you mean"),
    "outputs": (changed("outputs", to={"name": "y"}), "outputs", "Expected a list"),
    "output is text": (changed("outputs", 0, to="y"), "outputs.0", "Expected an object"),
    "unknown output": (changed("outputs", 1, "name", to="w"), "outputs.1.name", "no 'w'; known are \\[y, z\\]"),
    "output twice": (changed("outputs", 1, "name", to="y"), "outputs.1.name", "`y` is there twice"),
    "classes": (
        changed("outputs", 0, "parameters", to={"classification": 3}),
        "outputs.0.parameters.classification",
        "The extension of classes is not served",
    ),
}


@pytest.mark.parametrize(("value", "param", "fault"), REFUSED.values(), ids=list(REFUSED))
def test_a_fault_is_refused_where_it_is(value: object, param: str, fault: str) -> None:
    with pytest.raises(RequestError, match=fault) as caught:
        read(value)

    assert (caught.value.status, caught.value.param) == (400, param)
    assert caught.value.message.startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff\xfe", "invalid_utf8"),
        (b'{"id": "\xc3"}', "invalid_utf8"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"inputs": [{"data": [NaN]}]}', "invalid_json"),
        (b'{"inputs": [{"data": [-Infinity]}]}', "invalid_json"),
        (b"{} {}", "invalid_json"),
    ],
)
def test_what_is_no_json_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(body)

    assert (caught.value.status, caught.value.code) == (400, code)


def sized(size: object, shape: Sequence[int] = (2,), datatype: str = "UINT8") -> dict[str, object]:
    return {"inputs": [tensor("k", shape, datatype, parameters={"binary_data_size": size})]}


SIZE = "inputs.0.parameters.binary_data_size"


@pytest.mark.parametrize(
    ("value", "tail", "param", "fault"),
    [
        (sized(2), b"\1\2\3", "inputs", "1 bytes behind the JSON are no input's"),
        (sized(2), b"\1", SIZE, "Expected 2 bytes behind the JSON, 1 are left"),
        (sized(2), None, SIZE, "Expected 2 bytes behind the JSON, 0 are left; is `inference-header-content-length`"),
        (sized(3), b"\1\2\3", SIZE, "Expected 2 for shape \\[2\\] of `UINT8`, got 3"),
        (sized(0), b"", SIZE, "Expected 2 for shape"),
        (sized(-1), b"\1\2", SIZE, "Expected a whole number from 0"),
        (sized(True), b"\1\2", SIZE, "Expected a whole number from 0"),
        (sized(2**63), b"\1\2", SIZE, "Expected a whole number from 0"),
        (sized(2**63 - 1), b"\1\2", SIZE, "bytes behind the JSON, 2 are left"),
        (sized("2"), b"\1\2", SIZE, "Expected a whole number from 0"),
        (sized(2, [2**31 - 1]), b"\1\2", SIZE, "Expected 2147483647 for shape"),
        (request(), b"\1", "inputs", "1 bytes behind the JSON are no input's"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(value: object, tail: bytes | None, param: str, fault: str) -> None:
    with pytest.raises(RequestError, match=fault) as caught:
        read(value, tail, inputs=[K] if value != request() else INPUTS)

    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("shape", [[2**31, 0], [2**16, 2**16], [2**62, 0], [2**16, 2**16, 0, 2**16]])
def test_a_shape_that_no_memory_holds_is_refused_even_where_it_holds_nothing(shape: list[int]) -> None:
    spec = TensorSpec("x", "float32", (None,) * len(shape))

    with pytest.raises(RequestError, match="at most 2147483647 elements"):
        read({"inputs": [tensor(shape=shape, data=[])]}, inputs=[spec], outputs=[TensorSpec("y", "float32", ())])


def test_a_shape_that_holds_nothing_is_read_where_it_is_not_the_rows() -> None:
    spec = TensorSpec("x", "float32", (None, 12, None, 64))
    value = {"inputs": [tensor(shape=[1, 12, 0, 64], data=[])]}

    assert read(value, inputs=[spec]).inputs["x"].shape == (1, 12, 0, 64)


def test_a_byte_that_is_no_truth_is_refused() -> None:
    value = {"inputs": [tensor(shape=[2], datatype="BOOL", parameters={"binary_data_size": 2})]}

    with pytest.raises(RequestError, match="Expected bytes 0 and 1 for `BOOL`, got 255"):
        read(value, b"\1\xff", inputs=[TensorSpec("x", "bool", (None,))])


@pytest.mark.parametrize("length", ["", "-1", "1e3", "+5", "٣", "0x10", "99999999999999999999", "5 5", "100000"])
def test_a_length_that_is_none_of_the_body_is_refused(length: str) -> None:
    with pytest.raises(RequestError, match=f"^{LENGTH}: Expected a number of bytes") as caught:
        parse(json.dumps(request()).encode(), {LENGTH: length}, INPUTS, OUTPUTS)

    assert (caught.value.status, caught.value.param) == (400, LENGTH)


def test_a_model_of_one_batch_size_wants_as_many_rows_in_every_input() -> None:
    specs = [TensorSpec("x", "float32", (4, 3)), TensorSpec("k", "uint8", (4,))]
    value = request(inputs=[tensor(data=[0] * 6), tensor("k", [3], "UINT8", data=[0] * 3)])

    with pytest.raises(RequestError, match="inputs: Expected as many rows in every input"):
        read(value, inputs=specs, outputs=[TensorSpec("y", "float32", (4,))])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_output_that_json_cannot_say_is_an_error_that_names_the_remedy(value: float) -> None:
    asked = read(request(outputs=[{"name": "y"}]))

    with pytest.raises(
        RequestError, match="Output `y` holds NaN or infinity.*ask for it with `.*binary_data`"
    ) as caught:
        encode(asked, {"y": np.array([[1, value]], np.float32)}, model_name="m", model_version="1")

    assert (caught.value.status, caught.value.code, caught.value.param) == (500, "not_finite", "outputs.y")


def test_an_output_of_a_type_without_a_name_is_an_error() -> None:
    with pytest.raises(RequestError, match="no datatype for `complex64`"):
        encode(read(request()), {"y": np.ones(1, np.complex64)}, model_name="m", model_version="1")


def test_metadata_says_what_goes_in_and_out() -> None:
    inputs = [TensorSpec("x", "float32", (None, 3, None)), TensorSpec("s", "bool", ())]

    assert metadata("m", "1", "onnxruntime_onnx", inputs, [TensorSpec("y", "int64", (7,))]) == {
        "name": "m",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 3, -1]},
            {"name": "s", "datatype": "BOOL", "shape": []},
        ],
        "outputs": [{"name": "y", "datatype": "INT64", "shape": [7]}],
    }


def test_metadata_leaves_the_batch_open_since_any_number_of_rows_is_taken() -> None:
    found = metadata("m", "1", "p", [TensorSpec("x", "float32", (4, 3))], [TensorSpec("y", "float32", (4, 2))])

    assert [each["shape"] for key in ("inputs", "outputs") for each in found[key]] == [[-1, 3], [-1, 2]]  # type: ignore[attr-defined]


def test_the_server_says_which_extensions_it_has() -> None:
    assert server_metadata("forge", "1.2") == {"name": "forge", "version": "1.2", "extensions": ["binary_tensor_data"]}


def test_an_error_is_one_text() -> None:
    assert json.loads(error_body(RequestError("inputs: Missing [é]"))) == {"error": "inputs: Missing [é]"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-300, 300)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["x", "y", "FP32", "UINT8", "BYTES", "", "\0", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "binary_data_size", "?"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def places(value: object) -> list[tuple[Any, Any]]:
    """Every container of a JSON value, with each of its keys."""
    keys: list[Any] = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    inner = [place for key in keys for place in places(value[key])]  # type: ignore[index]
    return [(value, key) for key in keys] + inner


GOOD = request(
    id="7",
    parameters={"binary_data_output": True},
    inputs=[
        tensor(parameters={"binary_data_size": 24}),
        tensor("k", [2], "UINT8", data=[7, 8]),
    ],
    outputs=[{"name": "y", "parameters": {"binary_data": False}}],
)


def refused_or_read(body: bytes, headers: Mapping[str, str]) -> None:
    """Fail for anything but a request, or a refusal that can be sent."""
    try:
        asked = parse(body, headers, INPUTS, OUTPUTS)
    except RequestError as error:
        assert 400 <= error.status <= 413
        assert isinstance(json.loads(error_body(error))["error"], str)
        return
    shapes = {name: array.shape for name, array in asked.inputs.items()}
    assert set(shapes) == {"x", "k"}
    assert asked.rows in (None, shapes["x"][0])


@settings(max_examples=150)
@given(data=st.data())
def test_a_request_with_any_value_in_any_place_is_read_or_refused(data: st.DataObject) -> None:
    value = copy.deepcopy(GOOD)
    for _ in range(data.draw(st.integers(1, 2))):
        at, key = data.draw(st.sampled_from(places(value)))
        at[key] = data.draw(JSON)
    text = json.dumps(value).encode()
    tail = bytes(data.draw(st.sampled_from([24, 24, 0, 23, 25])))

    refused_or_read(text + tail, {LENGTH: str(len(text))})


@settings(max_examples=150)
@given(
    cut=st.tuples(st.integers(0, 400), st.integers(0, 8)),
    new=st.binary(max_size=8),
    length=st.none() | st.integers(0, 400).map(str) | st.text(max_size=5),
)
def test_a_request_with_any_bytes_in_any_place_is_read_or_refused(
    cut: tuple[int, int], new: bytes, length: str | None
) -> None:
    text = json.dumps(GOOD).encode()
    body = text + bytes(24)
    at = cut[0] % len(body)

    refused_or_read(body[:at] + new + body[at + cut[1] :], {LENGTH: str(len(text)) if length is None else length})


@settings(max_examples=100)
@given(body=st.binary(max_size=200), length=st.none() | st.integers(0, 250).map(str))
def test_any_bytes_are_read_or_refused(body: bytes, length: str | None) -> None:
    refused_or_read(body, {} if length is None else {LENGTH: length})
