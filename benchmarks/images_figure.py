"""What steps of `images.py` cost, and how that is told."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Clock", "Cost", "Costs", "note", "show", "timed"]

GOALS = {"cold": 2.0, "until it answers": 5.0, "arm64": 10.0}
"""How many times faster than the best of the Dockerfile's settings."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one step took."""

    wall: float
    cpu: float
    """Seconds of the whole machine."""


class Clock:
    """Measures from its making on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), _busy()

    def read(self) -> Cost:
        """What it took up to now."""
        return Cost(time.perf_counter() - self._wall, _busy() - self._cpu)


Costs = dict[str, dict[str, list[Cost]]]
"""Step -> contender -> what each round took."""


def timed(action: Callable[[], None]) -> Cost:
    """Do something; what it took."""
    clock = Clock()
    action()
    return clock.read()


def note(costs: Costs, step: str, contender: str, cost: Cost) -> None:
    """Keep what a step took, and say it."""
    costs.setdefault(step, {}).setdefault(contender, []).append(cost)
    print(f"{step} {contender}: {cost.wall:.2f} s, CPU {cost.cpu:.2f} s", file=sys.stderr, flush=True)


def show(step: str, costs: dict[str, list[Cost]]) -> bool:
    """Print medians, and the median of the rounds' ratios to the embedded assembler; False where the goal is missed."""
    print(f"\n{step:<28} {'wall s':>8} {'CPU s':>8} {'wall, ratio':>12} {'CPU, ratio':>11} {'rounds':>7}")
    own = costs["embedded"]
    ratios = {}
    for name, each in costs.items():
        pairs = list(zip(each, own, strict=False))
        wall, cpu = statistics.median(a.wall for a in each), statistics.median(a.cpu for a in each)
        ratios[name] = statistics.median(a.wall / b.wall for a, b in pairs)
        ratio = statistics.median(a.cpu / max(b.cpu, 0.01) for a, b in pairs)
        print(f"  {name:<26} {wall:>8.2f} {cpu:>8.2f} {ratios[name]:>12.1f} {ratio:>11.1f} {len(each):>7}")
    if step not in GOALS:
        return True
    best = min(ratio for name, ratio in ratios.items() if name.startswith("plain"))
    fine = best >= GOALS[step]
    print(f"  goal {GOALS[step]:g} times faster than the best Dockerfile: {best:.1f}, {'met' if fine else 'missed'}")
    return fine


def _busy() -> float:
    """Seconds that the machine's processors have worked since it started."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
