"""The Open Inference Protocol, version 2, as KServe and Triton speak it over HTTP: bytes to arrays and back.

With the binary tensor data extension, the bytes of tensors stand behind the JSON, in the order in which the JSON
names them, and a header says where it ends. Parameters that neither the protocol nor this extension knows are
passed over, as it allows; those of other extensions, which would change the answer, are refused by name.
NaN and infinity go in and out as bytes only: JSON has no such numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from forge_runtime.backend import TensorSpec
from forge_runtime.error import Fault, RequestError
from forge_runtime.http.oip_tensor import (
    check_datatype,
    datatype_of,
    from_bytes,
    from_json,
    read_shape,
    refused,
    to_bytes,
    to_json,
)
from forge_runtime.table import Table, parse_json
from forge_runtime.tensor import Arrays, Signature, TensorRequest, count_rows, is_batchable

__all__ = ["TensorRequest", "encode", "error_body", "metadata", "parse", "server_metadata"]

LENGTH_HEADER: Final = "inference-header-content-length"
EXTENSIONS: Final = ("binary_tensor_data",)
UNSERVED: Final[Mapping[str, str]] = {
    "classification": "of classes",
    "sequence_id": "of sequences",
    "shared_memory_region": "of shared memory",
}
"""Parameters of other extensions."""
MAX_BYTES: Final = 2**63 - 1


def parse(
    body: bytes, headers: Mapping[str, str], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> TensorRequest:
    """Read an inference request for a model of these inputs and outputs; names of headers are in lower case.

    Whatever is wrong with it is a RequestError of status 400 whose `param` is the place. No array is larger
    than what the body holds.
    """
    text, tail = _split(body, headers)
    faults: list[Fault] = []
    root = Table(_json(text), faults=faults)
    binary = _parameters(root, "", faults).truth("binary_data_output", False)
    request_id, tensors, asked = root.take("id"), root.take("inputs"), root.take("outputs")
    for key in ("model_name", "model_version"):  # the path says it, and some clients repeat it
        root.take(key)
    root.close()
    if request_id is not None and not isinstance(request_id, str):
        faults.append(Fault("id", "Expected a string"))
    _refuse(faults)
    signature = (inputs, outputs)
    arrays = _inputs(tensors, signature, tail)
    tail.close()
    wanted, as_bytes = _outputs(asked, outputs, binary=binary)
    rows = _rows(signature, arrays)
    return TensorRequest(arrays, wanted, rows, as_bytes, request_id if isinstance(request_id, str) else None)


def encode(
    request: TensorRequest, outputs: Arrays, *, model_name: str, model_version: str
) -> tuple[bytes, dict[str, str]]:
    """Write the answer; return its body, and its headers with the content type.

    An output that holds NaN or infinity and is not wanted as bytes is a RequestError of status 500.
    """
    tensors: list[dict[str, object]] = []
    tail: list[bytes] = []
    for name in request.outputs:
        array = outputs[name]
        tensor: dict[str, object] = {"name": name, "datatype": datatype_of(array.dtype.name), "shape": [*array.shape]}
        if name in request.binary:
            tail.append(to_bytes(array))
            tensor["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            tensor["data"] = to_json(array, name)
        tensors.append(tensor)
    head: dict[str, object] = {"model_name": model_name, "model_version": model_version, "outputs": tensors}
    if request.id is not None:
        head["id"] = request.id
    text = _dump(head)
    if not tail:
        return text, {"content-type": "application/json"}
    headers = {"content-type": "application/octet-stream", LENGTH_HEADER: str(len(text))}
    return b"".join([text, *tail]), headers


def metadata(
    name: str, version: str, platform: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> dict[str, object]:
    """Describe a model; a size is -1 where any will do, as the first does where that is the batch."""
    any_rows = is_batchable((inputs, outputs))

    def describe(spec: TensorSpec) -> dict[str, object]:
        shape = [-1 if size is None or (any_rows and axis == 0) else size for axis, size in enumerate(spec.shape)]
        return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": shape}

    return {
        "name": name,
        "versions": [version],
        "platform": platform,
        "inputs": [describe(spec) for spec in inputs],
        "outputs": [describe(spec) for spec in outputs],
    }


def server_metadata(name: str, version: str) -> dict[str, object]:
    """Describe the server."""
    return {"name": name, "version": version, "extensions": list(EXTENSIONS)}


def error_body(error: RequestError) -> bytes:
    """Write what this protocol's clients read of a refusal."""
    return _dump({"error": error.message})


def _dump(value: object) -> bytes:
    # ASCII: what a client sent may hold half a character.
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


class _Tail:
    """What stands behind the JSON, taken tensor by tensor."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def take(self, size: int, place: str) -> memoryview:
        if size > len(self._data):
            left = len(self._data)
            raise refused(place, f"Expected {size} bytes behind the JSON, {left} are left; is `{LENGTH_HEADER}` right?")
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def close(self) -> None:
        if self._data:
            raise refused("inputs", f"{len(self._data)} bytes behind the JSON are no input's `binary_data_size`")


def _split(body: bytes, headers: Mapping[str, str]) -> tuple[bytes, _Tail]:
    declared = headers.get(LENGTH_HEADER, str(len(body)))
    if not re.fullmatch(r"[0-9]{1,18}", declared) or int(declared) > len(body):
        text = f"Expected a number of bytes, at most the body's {len(body)}, got {declared[:40]!a}"
        raise refused(LENGTH_HEADER, text)
    return body[: int(declared)], _Tail(memoryview(body)[int(declared) :])


def _json(text: bytes) -> object:
    try:
        return parse_json(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RequestError(f"The JSON is not UTF-8: byte {error.start}", code="invalid_utf8") from None
    except ValueError as error:
        raise RequestError(f"The body is not JSON: {error}", code="invalid_json") from None


def _parameters(table: Table, place: str, faults: list[Fault]) -> Table:
    value = table.take("parameters")
    path = f"{place}.parameters".lstrip(".")
    parameters = Table({} if value is None else value, place=path, faults=faults)
    for key, what in UNSERVED.items():
        if key in parameters:
            faults.append(Fault(f"{path}.{key}", f"The extension {what} is not served"))
    return parameters


def _inputs(value: object, signature: Signature, tail: _Tail) -> dict[str, NDArray[Any]]:
    if not isinstance(value, list) or not value:
        raise refused("inputs", "Expected a list of tensors, not empty")
    specs = {spec.name: spec for spec in signature[0]}
    reader = _Reader(specs, is_batchable(signature), tail)
    arrays: dict[str, NDArray[Any]] = {}
    for index, tensor in enumerate(value):
        name, array = reader.read(tensor, f"inputs.{index}")
        _check_once(name, arrays, f"inputs.{index}.name")
        arrays[name] = array
    missing = [name for name in specs if name not in arrays]
    if missing:
        raise refused("inputs", f"Missing [{', '.join(missing)}]")
    return arrays


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the inputs of one request."""

    specs: Mapping[str, TensorSpec]
    any_rows: bool
    tail: _Tail

    def read(self, value: object, place: str) -> tuple[str, NDArray[Any]]:
        faults: list[Fault] = []
        table = Table(value, place=place, faults=faults)
        table.require("name", "datatype", "shape")
        name, datatype = table.text("name", ""), table.text("datatype", "")
        shape, data = table.take("shape"), table.take("data")
        size = _parameters(table, place, faults).integer("binary_data_size", None, 0, MAX_BYTES)
        table.close()
        _refuse(faults)
        _check_name(name, self.specs, f"{place}.name")
        spec = self.specs[name]
        check_datatype(datatype, spec, f"{place}.datatype")
        sizes = read_shape(shape, spec, f"{place}.shape", any_rows=self.any_rows)
        if (data is None) == (size is None):
            raise refused(place, "Expected either `data` or `parameters.binary_data_size`")
        if size is None:
            return name, from_json(data, spec.dtype, sizes, f"{place}.data")
        where = f"{place}.parameters.binary_data_size"
        return name, from_bytes(self.tail.take(size, where), spec.dtype, sizes, where)


def _outputs(value: object, specs: Sequence[TensorSpec], *, binary: bool) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the outputs that are wanted, and those of them that are wanted as bytes."""
    names = [spec.name for spec in specs]
    if value is None or value == []:
        return tuple(names), frozenset(names if binary else ())
    if not isinstance(value, list):
        raise refused("outputs", "Expected a list")
    wanted: dict[str, bool] = {}
    for index, output in enumerate(value):
        place = f"outputs.{index}"
        faults: list[Fault] = []
        table = Table(output, place=place, faults=faults)
        table.require("name")
        name = table.text("name", "")
        as_bytes = _parameters(table, place, faults).truth("binary_data", binary)
        table.close()
        _refuse(faults)
        _check_name(name, names, f"{place}.name")
        _check_once(name, wanted, f"{place}.name")
        wanted[name] = as_bytes
    return tuple(wanted), frozenset(name for name, as_bytes in wanted.items() if as_bytes)


def _check_name(name: str, known: Collection[str], place: str) -> None:
    if name not in known:
        raise refused(place, f"The model has no {name[:40]!a}; known are [{', '.join(known)}]")


def _check_once(name: str, found: Collection[str], place: str) -> None:
    if name in found:
        raise refused(place, f"`{name}` is there twice")


def _rows(signature: Signature, arrays: Arrays) -> int | None:
    rows = count_rows(signature, arrays)
    if rows is None and is_batchable(signature) and signature[0][0].shape[0] is not None:
        raise refused("inputs", "Expected as many rows in every input")
    return rows


def _refuse(faults: Sequence[Fault]) -> None:
    if faults:
        raise RequestError("; ".join(map(str, faults[:8])), param=faults[0].place)
