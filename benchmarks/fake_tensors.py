"""A tensor backend without a model: the sum of each row, as two logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge_runtime.backend import TensorSpec
from forge_runtime.config import ModelConfig, Params

__all__ = ["SHAPE", "FakeTensors", "create"]

SHAPE = (3, 4, 4)
"""Of one picture."""


class FakeTensors:
    """Takes pictures."""

    def load(self, model: ModelConfig, params: Params) -> None:
        """Nothing is read."""

    def describe(self) -> Mapping[str, str | int]:
        """Say that it is none."""
        return {"backend": "fake"}

    def signature(self) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
        """Any number of pictures in, as many pairs out."""
        return [TensorSpec("x", "float32", (None, *SHAPE))], [TensorSpec("y", "float32", (None, 2))]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Add up."""
        total = inputs["x"].sum(axis=(1, 2, 3), dtype=np.float32)
        return {"y": np.stack([total, -total], axis=1)}


def create() -> FakeTensors:
    """Make the backend."""
    return FakeTensors()
