"""Arrays of several requests, joined and run as one batch, and the results divided again."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge_runtime.backend import TensorBackend, TensorSpec
from forge_runtime.error import RequestError
from forge_runtime.request import Awaited

__all__ = [
    "Arrays",
    "Signature",
    "TensorOutcome",
    "TensorRequest",
    "batch_key",
    "count",
    "count_rows",
    "infer_batch",
    "is_batchable",
    "pad",
]

Arrays = Mapping[str, NDArray[Any]]
Signature = tuple[Sequence[TensorSpec], Sequence[TensorSpec]]
"""What goes in and what comes out, as `TensorBackend.signature` says it."""
TensorOutcome = Arrays | RequestError

CLIENT_LEFT = 499


@dataclass(frozen=True, slots=True, eq=False)
class TensorRequest(Awaited):
    """Arrays that the model is run on, and which of its outputs are wanted."""

    inputs: Arrays
    outputs: tuple[str, ...]
    """In the order in which they are answered."""
    rows: int | None = None
    """Size of the first dimension of all inputs, where that is the batch; None: it is run alone and whole."""
    binary: frozenset[str] = frozenset()
    """Outputs that are answered as bytes, and not as JSON."""
    id: str | None = None


def is_batchable(signature: Signature) -> bool:
    """Say whether the first dimension is the batch: the same for all that goes in, and for all that comes out.

    A specification does not say what a dimension means. One that is open, or of one size, in every input and
    output is taken for the batch: what a model gives for a row must not depend on the rows beside it.
    """
    inputs, outputs = signature
    if not inputs or not outputs or not all(spec.shape for spec in (*inputs, *outputs)):
        return False
    size = inputs[0].shape[0]
    same = all(spec.shape[0] == size for spec in inputs)
    return same and size != 0 and all(spec.shape[0] in (None, size) for spec in outputs)


def count_rows(signature: Signature, inputs: Arrays) -> int | None:
    """Return the size of the first dimension, where that is the batch and the same for all inputs."""
    if not is_batchable(signature):
        return None
    sizes = {len(inputs[spec.name]) for spec in signature[0]}
    return sizes.pop() if len(sizes) == 1 else None


def batch_key(request: TensorRequest) -> Hashable:
    """Return what two requests have in common that can be run together; None runs alone."""
    if request.rows is None:
        return None
    return tuple((name, array.dtype.str, array.shape[1:]) for name, array in sorted(request.inputs.items()))


def count(request: TensorRequest) -> int:
    """Count the rows; what is run alone is one."""
    return 1 if request.rows is None else request.rows


def infer_batch(
    backend: TensorBackend,
    signature: Signature,
    requests: Sequence[TensorRequest],
    batch_size: int,
    *,
    fill: bool = True,
) -> Sequence[TensorOutcome]:
    """Run requests, those with one key together, at most `batch_size` rows at a time; an outcome for each.

    Where the model's own batch is fixed, so many rows are run, and with `fill` also taken, whatever
    `batch_size` says: missing ones are zeros, and what comes of them is dropped. A request that nobody
    waits for any more is left out from then on.
    """
    fixed = signature[0][0].shape[0] if is_batchable(signature) else None
    size = fixed if fixed and fill else min(batch_size, fixed or batch_size)
    run = _Run(backend, size, fixed)
    groups: dict[Hashable, list[int]] = {}
    for index, request in enumerate(requests):
        key = batch_key(request)
        groups.setdefault(index if key is None else key, []).append(index)
    outcomes: dict[int, TensorOutcome] = {}
    for indices in groups.values():
        outcomes.update(zip(indices, run.outcomes([requests[index] for index in indices]), strict=True))
    return [outcomes[index] for index in range(len(requests))]


def pad(array: NDArray[Any], size: int) -> NDArray[Any]:
    """Add rows of zeros, of the array's own type, up to a size."""
    missing = size - len(array)
    if missing <= 0:
        return array
    # Zeros of another type would turn the whole batch into that.
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of one request, in a batch."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Run:
    """How requests with one key are run."""

    backend: TensorBackend
    size: int
    """Rows that are taken at a time."""
    fixed: int | None
    """Rows that the model takes, no more and no fewer."""

    def outcomes(self, requests: Sequence[TensorRequest]) -> Sequence[TensorOutcome]:
        try:
            return self._together(requests)
        except RequestError as error:
            if len(requests) == 1:
                return [error]
        # One of them is to blame, and the others are not refused for it.
        return [outcome for request in requests for outcome in self.outcomes([request])]

    def _together(self, requests: Sequence[TensorRequest]) -> Sequence[TensorOutcome]:
        found: list[list[Arrays]] = [[] for _ in requests]
        done = [0] * len(requests)
        for parts in self._batches(requests):
            for part, arrays in zip(parts, self._part_outputs(requests, parts), strict=True):
                found[part.index].append(arrays)
                done[part.index] = part.stop
        return [
            _join(request.outputs, arrays) if rows == count(request) else _left()
            for request, arrays, rows in zip(requests, found, done, strict=True)
        ]

    def _batches(self, requests: Sequence[TensorRequest]) -> Iterator[Sequence[_Part]]:
        """Yield what is run next; who still waits is asked only then."""
        parts: list[_Part] = []
        room = self.size
        for index, request in enumerate(requests):
            start, rows = 0, count(request)
            while start < rows and not request.cancelled():
                stop = min(start + room, rows)
                parts.append(_Part(index, start, stop))
                room -= stop - start
                start = stop
                if not room:
                    yield parts
                    parts, room = [], self.size
        if parts:
            yield parts

    def _part_outputs(self, requests: Sequence[TensorRequest], parts: Sequence[_Part]) -> Sequence[Arrays]:
        """Run one batch, and give each part its own."""
        first = requests[parts[0].index]
        if first.rows is None:
            return [self.backend.run(first.inputs)]
        names = list(first.inputs)
        taken = [{name: requests[part.index].inputs[name][part.start : part.stop] for name in names} for part in parts]
        inputs = _join(names, taken)
        rows = sum(part.stop - part.start for part in parts)
        run = max(rows, self.fixed or 0)
        outputs = self.backend.run({name: pad(array, run) for name, array in inputs.items()})
        if len(parts) == 1 and rows == run == first.rows:
            return [outputs]
        wanted = {name for part in parts for name in requests[part.index].outputs}
        for name in sorted(wanted):
            self._check_rows(name, outputs[name], run)
        ends = np.cumsum([part.stop - part.start for part in parts])
        return [
            {name: outputs[name][end - (part.stop - part.start) : end] for name in wanted}
            for part, end in zip(parts, ends, strict=True)
        ]

    def _check_rows(self, name: str, array: NDArray[Any], rows: int) -> None:
        if array.ndim and len(array) == rows:
            return
        remedy = f"send exactly {self.fixed} rows" if self.fixed else f"send at most {self.size} rows"
        fault = f"Output `{name}` is of shape {list(array.shape)} for {rows} rows, so it cannot be divided"
        raise RequestError(f"{fault}; {remedy}", code="not_divisible")


def _join(names: Sequence[str], pieces: Sequence[Arrays]) -> Arrays:
    if len(pieces) == 1:
        return {name: pieces[0][name] for name in names}
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}


def _left() -> RequestError:
    return RequestError("The client has left", status=CLIENT_LEFT, code="client_left")
