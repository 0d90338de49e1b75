"""Image classification by a tensor backend; what a handler for pictures subclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from forge_runtime.backend import TensorBackend, TensorSpec
from forge_runtime.error import LoadError, RequestError
from forge_runtime.lifecycle import Lifecycle
from forge_runtime.picture import Limits, decode_picture, split_body
from forge_runtime.request import Awaited
from forge_runtime.tensor import TensorRequest, infer_batch

__all__ = ["ImageClassifier", "Pictures"]

CHANNELS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Pictures(Awaited):
    """Pictures that are classified together, in the model's size."""

    names: tuple[str, ...]
    pixels: NDArray[Any]
    """From `decode` uint8 (n, height, width, 3); from `preprocess` what the model takes."""


class ImageClassifier(Lifecycle[Pictures, NDArray[Any]]):
    """A picture or a zip of pictures in, `{name: [[class, label, probability], ...]}` out.

    The model takes one tensor (n, 3, height, width) or (n, height, width, 3) and gives logits (n, classes).
    Where its n is fixed, the last batch is filled up with zeros and what comes of them is dropped.
    """

    needs = TensorBackend
    backend: TensorBackend
    labels: ClassVar[str | None] = "labels.txt"
    """File beside the handler with a line for each class; None: classes have numbers only."""
    top: ClassVar[int] = 5
    """How many classes are returned."""
    scale: ClassVar[float] = 1 / 255
    mean: ClassVar[tuple[float, float, float]] = (0.0, 0.0, 0.0)
    """Taken off each channel, once it is scaled."""
    deviation: ClassVar[tuple[float, float, float]] = (1.0, 1.0, 1.0)
    """By which each channel is then divided."""
    limits: ClassVar[Limits] = Limits()

    def load(self) -> None:
        """Read model and labels; raise LoadError where they do not fit each other or a picture."""
        super().load()
        inputs, outputs = self.backend.signature()
        if len(inputs) != 1 or not outputs:
            raise LoadError(f"A classifier of pictures has one input, this model has {len(inputs)}")
        self._input = inputs[0]
        # Whatever its graph says of the first dimension, a classifier gives a row for each picture.
        self._output = replace(outputs[0], shape=(self._input.shape[:1] + outputs[0].shape[1:]))
        self._channels_first = _channels_first(self._input)
        height, width = self._input.shape[2:] if self._channels_first else self._input.shape[1:3]
        if height is None or width is None:
            raise LoadError(f"`{self._input.name}` has no fixed height and width")
        self._size = (width, height)
        self._names = self._read_labels(self._output.shape[-1] if len(self._output.shape) > 1 else None)

    def warm_up(self) -> None:
        """Run one batch of black pictures."""
        width, height = self._size
        black = np.zeros((1, height, width, CHANNELS), np.uint8)
        self.infer(self.preprocess(Pictures(("",), black)))

    def decode(self, body: bytes, content_type: str) -> Pictures:
        """Unpack and decode; what is no picture is the client's fault."""
        names, pixels = [], []
        left = self.limits.total_pixels
        for name, data in split_body(body, self.limits):
            limits = replace(self.limits, pixels=min(self.limits.pixels, left))
            picture, count = decode_picture(name, data, self._size, limits)
            left -= count
            names.append(name)
            pixels.append(picture)
        return Pictures(tuple(names), np.stack(pixels))

    def preprocess(self, request: Pictures) -> Pictures:
        """Scale, normalise and transpose to what the model takes."""
        pixels = request.pixels
        if self._input.dtype != "uint8":
            scaled = pixels.astype(np.float32) * np.float32(self.scale)
            normal = (scaled - np.array(self.mean, np.float32)) / np.array(self.deviation, np.float32)
            pixels = _cast(normal, self._input.dtype)
        if self._channels_first:
            pixels = pixels.transpose(0, 3, 1, 2)
        return Pictures(request.names, pixels, cancelled=request.cancelled)

    def infer(self, request: Pictures) -> NDArray[Any]:
        """Run the model for one request; return a row of logits for each picture."""
        (outcome,) = self.infer_batch([request])
        if isinstance(outcome, RequestError):
            raise outcome
        return outcome

    def infer_batch(self, requests: Sequence[Pictures]) -> Sequence[NDArray[Any] | RequestError]:
        """Run the pictures of all requests, a batch at a time, and in latency mode one picture."""
        name = self._output.name
        asked = [
            TensorRequest({self._input.name: each.pixels}, (name,), len(each.pixels), cancelled=each.cancelled)
            for each in requests
        ]
        fill = self.config.server.mode == "throughput"
        signature = ([self._input], [self._output])
        outcomes = infer_batch(self.backend, signature, asked, self.batch_size, fill=fill)
        return [outcome if isinstance(outcome, RequestError) else outcome[name] for outcome in outcomes]

    def count(self, request: Pictures) -> int:
        """Count the pictures."""
        return len(request.pixels)

    def postprocess(self, request: Pictures, results: NDArray[Any]) -> object:
        """Pair each picture's name with its likeliest classes."""
        if len(results) != len(request.names):
            raise ValueError(f"{len(request.names)} pictures, but {len(results)} results")
        return {name: self._best(row) for name, row in zip(request.names, results, strict=True)}

    def probabilities(self, logits: NDArray[Any]) -> NDArray[Any]:
        """Softmax, for a model that does not end with it."""
        shifted = np.exp(logits.astype(np.float64) - logits.max())
        return np.asarray(shifted / shifted.sum())

    def _best(self, row: NDArray[Any]) -> list[list[object]]:
        chances = self.probabilities(row.reshape(-1))
        order = np.argsort(-chances, kind="stable")[: self.top]
        return [[int(each), self._label(int(each)), round(float(chances[each]), 6)] for each in order]

    def _label(self, number: int) -> str:
        return self._names[number] if self._names else str(number)

    def _read_labels(self, classes: int | None) -> Sequence[str]:
        if self.labels is None:
            return ()
        path = self.config.server.app_dir / self.labels
        try:
            names = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise LoadError(f"{path}: Cannot be read; add it to `data`, or set `labels = None`: {error}") from error
        if classes is not None and len(names) != classes:
            raise LoadError(f"{path}: {len(names)} labels, but the model has {classes} classes")
        return names


def _cast(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Convert; whole numbers are rounded, and kept within their range, around which a cast alone would wrap."""
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(dtype)


def _channels_first(spec: TensorSpec) -> bool:
    if len(spec.shape) == 4 and CHANNELS in (spec.shape[1], spec.shape[3]):
        return spec.shape[1] == CHANNELS
    raise LoadError(f"`{spec.name}` of shape {list(spec.shape)} takes no pictures of {CHANNELS} channels")
