"""What was measured, and whether it is what was promised."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["Figure", "as_json", "as_table"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number."""

    name: str
    value: float
    unit: str = ""
    goal: float | None = None
    """None where nothing was promised."""
    better: Literal["lower", "higher"] = "lower"
    """Than the goal."""

    @property
    def is_met(self) -> bool:
        """Whether the promise is kept, where there is one."""
        if self.goal is None:
            return True
        return self.value <= self.goal if self.better == "lower" else self.value >= self.goal


def as_table(part: str, figures: Iterable[Figure]) -> str:
    """Show the figures of one part."""
    lines = [part]
    for figure in figures:
        sign = "<=" if figure.better == "lower" else ">="
        goal = "" if figure.goal is None else f"{sign} {figure.goal:g}"
        missed = "" if figure.is_met else "  MISSED"
        lines.append(f"  {figure.name:<58} {figure.value:>10.3f} {figure.unit:<7} {goal:<8}{missed}".rstrip())
    return "\n".join(lines)


def as_json(parts: dict[str, Sequence[Figure]]) -> str:
    """Write them for a program."""
    shown = {part: [{**asdict(figure), "met": figure.is_met} for figure in figures] for part, figures in parts.items()}
    return json.dumps(shown, indent=2)
