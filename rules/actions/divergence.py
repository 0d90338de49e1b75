"""How far a converted model is from its original, as figures whose bytes repeat."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rules.actions.fault import BadFile

Logits = npt.NDArray[np.float32]
"""Rows by vocabulary, or by class."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """What two models' logits differ by."""

    largest: float
    """Infinite where one of them is not finite."""
    total: float
    """Sum of all differences, for means over several."""
    count: int

    def figures(self) -> dict[str, float | None]:
        """Give its figures for a report; JSON has no infinity, None stands for it."""
        return {"largest_difference": rounded(self.largest), "mean_difference": rounded(self.total / self.count)}


def compare(original: Logits, converted: Logits) -> Divergence:
    """Compare logits of the same inputs; BadFile when there are not as many."""
    if original.shape != converted.shape or not original.size:
        raise BadFile(f"The original gives logits of the shape {original.shape}, the converted {converted.shape}")
    difference = np.abs(original.astype(np.float64) - converted.astype(np.float64))
    if not np.isfinite(difference).all():
        return Divergence(float("inf"), float("inf"), difference.size)
    return Divergence(float(difference.max()), float(difference.sum()), difference.size)


def together(parts: Iterable[Divergence]) -> Divergence:
    """Sum up."""
    found = list(parts)
    largest = max(each.largest for each in found)
    return Divergence(largest, sum(each.total for each in found), sum(each.count for each in found))


def agreement(original: Sequence[int], converted: Sequence[int]) -> float:
    """Tell the share of places that have the same token."""
    return sum(a == b for a, b in zip(original, converted, strict=True)) / len(original)


def rounded(value: float) -> float | None:
    """Round to four significant digits: more of them would be of this machine's arithmetic."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def sizes(original: Path, converted: Path, pattern: str, made: str) -> dict[str, Any]:
    """Tell the bytes of both models' weights and their ratio."""
    before = sum(file.stat().st_size for file in sorted(original.glob(pattern)))
    after = sum(file.stat().st_size for file in sorted(converted.glob(made)))
    return {"original": before, "converted": after, "ratio": rounded(after / before)}


def tools(*names: str) -> dict[str, str]:
    """Name the versions of what took part."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def write(out: Path, report: Mapping[str, Any]) -> None:
    """Write a report as canonical JSON."""
    text = json.dumps({"schema": 1, **report}, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False)
    out.write_text(text + "\n", encoding="ascii")
