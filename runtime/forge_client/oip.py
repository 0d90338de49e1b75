"""The Open Inference Protocol: `POST /v2/models/M/infer`, with tensors as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from forge_client.call import Asking, Call, Tally, answer_of, grouped
from forge_client.connection import Message, Response
from forge_client.dataset import Dataset, Prompts, Tensor, Tensors
from forge_client.error import RequestFailed, UsageFault
from forge_client.tensor import flat, unpacked
from forge_client.value import table_of

__all__ = ["Spec", "oip_calls", "specs_of"]


@dataclass(frozen=True, slots=True)
class Spec:
    """An input as the server describes it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    """-1 where any size will do."""


def specs_of(metadata: Mapping[str, object]) -> tuple[Spec, ...]:
    """Read the inputs of `GET /v2/models/M`; UsageFault when there are none."""
    inputs = metadata.get("inputs")
    found = []
    for table in map(table_of, inputs if isinstance(inputs, list) else ()):
        name, datatype, shape = table.get("name"), table.get("datatype"), table.get("shape")
        if isinstance(name, str) and isinstance(datatype, str) and isinstance(shape, list):
            # Some servers write sizes as text.
            found.append(Spec(name, datatype, tuple(int(size) for size in shape if str(size).lstrip("-").isdigit())))
    if not found:
        raise UsageFault("The server does not say what inputs its model takes")
    return tuple(found)


def oip_calls(asking: Asking, specs: Sequence[Spec], dataset: Dataset | None) -> list[Call]:
    """Make the requests of a data set; without one, a request of zeros."""
    if isinstance(dataset, Prompts):
        if len(specs) != 1 or specs[0].datatype != "BYTES" or dataset.gen:
            raise UsageFault("The model does not take one text", "Send tensors, or take another `--api`")
        dataset = Tensors(tuple({specs[0].name: Tensor((prompt,))} for prompt in dataset.prompts))
    if dataset is None:
        dataset = Tensors(({spec.name: _zeros(spec) for spec in specs},))
    if not isinstance(dataset, Tensors):
        raise UsageFault("`--api oip` takes tensors", 'Such as `{"data": [{"INPUT0": [1, 2, 3]}]}`')
    expected = dataset.expected or ({},) * len(dataset.rows)
    pairs = list(zip(dataset.rows, expected, strict=True))
    return [_call(asking, specs, group) for group in grouped(pairs, asking.batch)]


_Row = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]


def _call(asking: Asking, specs: Sequence[Spec], group: Sequence[_Row]) -> Call:
    names = {spec.name for spec in specs}
    for row, _ in group:
        if unknown := set(row) - names:
            raise UsageFault(
                f"The model has no input [{', '.join(sorted(unknown))}], it has [{', '.join(sorted(names))}]"
            )
    given = [spec for spec in specs if any(spec.name in row for row, _ in group)]
    if missing := [spec.name for spec in specs if spec not in given]:
        raise UsageFault(f"The data set has no values for the inputs [{', '.join(missing)}]")
    inputs = [_input(spec, [row[spec.name] for row, _ in group if spec.name in row], len(group)) for spec in specs]
    try:
        data = json.dumps({"inputs": inputs}, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise UsageFault(f"A tensor cannot be written as JSON: {error}") from error
    path = f"/v2/models/{quote(asking.model, safe='')}/infer"
    message = Message.make(asking.address, "POST", path, body=data, headers=asking.headers)
    expected = [wanted for _, wanted in group] if asking.check else []
    return Call(message, partial(_judge, len(group), asking.check, expected))


def _input(spec: Spec, rows: Sequence[Tensor], count: int) -> dict[str, object]:
    """Write one input of a request; several rows are stacked along the first dimension."""
    if len(rows) != count:
        raise UsageFault(f"Not every row of the data set has a value for `{spec.name}`")
    content: list[object] = []
    shapes = []
    for row in rows:
        values = row.content if row.data is None else unpacked(spec.name, spec.datatype, row.data)
        _refuse_wrong_kind(spec, values)
        shapes.append(_shape(spec, row.shape, len(values)))
        content += values
    shape = shapes[0]
    if len(shapes) > 1:
        if spec.shape[:1] != (-1,) or any(each[1:] != shape[1:] for each in shapes):
            raise UsageFault(f"Rows of `{spec.name}` cannot be sent together", "Take `--batch 1`")
        shape = (sum(each[0] for each in shapes), *shape[1:])
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(shape), "data": content}


def _refuse_wrong_kind(spec: Spec, values: Sequence[object]) -> None:
    fits = (str,) if spec.datatype == "BYTES" else (int, float)
    wrong = next((value for value in values if not isinstance(value, fits)), None)
    if wrong is not None:
        raise UsageFault(f"`{spec.name}` takes {spec.datatype}, the data set has `{wrong!a}`")


def _shape(spec: Spec, given: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Find a row's shape, batch dimension included; the data set's own may leave that out."""
    if given is None:
        sizes = list(spec.shape)
        free = [place for place, size in enumerate(sizes) if size < 0]
        if len(free) == 2 and free[0] == 0:
            sizes[free.pop(0)] = 1
        if len(free) == 1:
            rest = math.prod(size for size in sizes if size >= 0)
            sizes[free[0]] = count // rest if rest else 0
        elif free:
            raise UsageFault(f"`{spec.name}` may have any shape like {list(spec.shape)}", "Give it a `shape`")
    else:
        sizes = [1, *given] if len(given) == len(spec.shape) - 1 else list(given)
        if len(sizes) != len(spec.shape):
            raise UsageFault(f"`{spec.name}` takes a shape like {list(spec.shape)}, the data set has {list(given)}")
    if math.prod(sizes) != count:
        raise UsageFault(f"`{spec.name}` has {count} values, which do not fill its shape {sizes}")
    return tuple(sizes)


def _zeros(spec: Spec) -> Tensor:
    shape = tuple(max(1, size) for size in spec.shape)
    zero: object = "" if spec.datatype == "BYTES" else False if spec.datatype == "BOOL" else 0
    return Tensor((zero,) * math.prod(shape), None, shape)


def _judge(items: int, check: bool, expected: Sequence[Mapping[str, Tensor]], response: Response) -> Tally:
    if not check:
        return Tally(items)
    outputs = answer_of(response).get("outputs")
    if not isinstance(outputs, list) or not outputs:
        raise RequestFailed("answer", "The answer has no outputs")
    values = {}
    for table in map(table_of, outputs):
        shape, data = table.get("shape"), table.get("data")
        content = flat(data if isinstance(data, list) else ())
        sizes = [size for size in shape if type(size) is int] if isinstance(shape, list) else [-1]
        if math.prod(sizes) != len(content):
            raise RequestFailed("answer", f"Output `{table.get('name')}` has {len(content)} values and shape {shape}")
        values[str(table.get("name"))] = (str(table.get("datatype")), content)
    for name in {name for row in expected for name in row}:
        datatype, content = values.get(name, ("", ()))
        wanted: list[object] = []
        for row in expected:
            each = row.get(name, Tensor(()))
            wanted += each.content if each.data is None else unpacked(name, datatype or "UINT8", each.data)
        if len(wanted) != len(content) or not all(map(_alike, wanted, content)):
            raise RequestFailed("wrong", f"Output `{name}` is not what `validation_data` says")
    return Tally(items)


def _alike(wanted: object, found: object) -> bool:
    if isinstance(wanted, float) or isinstance(found, float):
        numbers = isinstance(wanted, (int, float)) and isinstance(found, (int, float))
        return numbers and math.isclose(wanted, found, rel_tol=1e-5, abs_tol=1e-8)  # type: ignore[arg-type]
    return wanted == found
