"""Samples for static quantisation: drawn pictures, as the service preprocesses them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def get_dataloader(dataset: str, batch_size: int, samples: int) -> Iterator[NDArray[np.float32]]:
    """Give batches (n, 3, height, width) of pixels from 0 to 1."""
    pixels = np.load(Path(dataset) / "calibration.npy")[: batch_size * samples]
    scaled = (pixels.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2)
    for start in range(0, len(scaled), batch_size):
        yield np.ascontiguousarray(scaled[start : start + batch_size])
