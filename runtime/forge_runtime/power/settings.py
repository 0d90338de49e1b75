"""How long power is measured, and how often."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from forge_runtime.error import Fault, RequestError
from forge_runtime.table import Table

__all__ = ["PowerSettings", "parse_settings"]

BOUNDS: Final = {
    "duration_s": (0.05, 300.0),
    "cooldown_s": (0.0, 60.0),
    "ramp_s": (0.0, 60.0),
    "interval_s": (0.005, 10.0),
    "max_samples": (1, 10_000),
    "dummy_s": (0.01, 600.0),
    "sensor_s": (0.01, 60.0),
}
ASKED: Final = ("duration_s", "cooldown_s", "ramp_s", "interval_s")
"""What a request may say."""


@dataclass(frozen=True, slots=True)
class PowerSettings:
    """One phase's timing; the defaults are CECAIServe's. ValueError where a value is out of bounds."""

    duration_s: float = 10.0
    """For which samples are taken."""
    cooldown_s: float = 2.0
    """Before a phase, so that the last one's heat does not count."""
    ramp_s: float = 3.0
    """From the start of the work to the first sample: a GPU's clocks rise, and its power is a mean of a second."""
    interval_s: float = 0.1
    max_samples: int = 2000
    """Of a phase; a request for more is refused."""
    dummy_s: float = 60.0
    """For a dummy to end once it is told to; then the phases after it are left out."""
    sensor_s: float = 5.0
    """For a sensor to answer; then it is left out."""

    def __post_init__(self) -> None:
        faults = self.faults()
        if faults:
            raise ValueError("; ".join(map(str, faults)))

    @property
    def seconds(self) -> float:
        """How long four phases take."""
        return 4 * (self.cooldown_s + self.ramp_s + self.duration_s)

    def faults(self) -> list[Fault]:
        """Name every value that is out of bounds."""
        found = []
        for each in fields(self):
            low, high = BOUNDS[each.name]
            value = getattr(self, each.name)
            if not low <= value <= high:
                found.append(Fault(each.name, f"Expected a number from {low:g} to {high:g}, got `{value}`"))
        return found or _crossed(self.duration_s, self.interval_s, self.max_samples)


def parse_settings(value: object, base: PowerSettings) -> PowerSettings:
    """Read the object that a request brings, over `base`; raise RequestError that names every fault.

    `data` is ignored: CECAIServe's client sends it, for its server wanted a body.
    """
    faults: list[Fault] = []
    table = Table(value, faults=faults)
    asked = {name: table.number(name, getattr(base, name), *BOUNDS[name]) for name in ASKED}
    table.take("data")
    table.close()
    faults = faults or _crossed(asked["duration_s"], asked["interval_s"], base.max_samples)
    if faults:
        param = faults[0].place if faults[0].place in ASKED else None
        raise RequestError("; ".join(map(str, faults)), param=param)
    return PowerSettings(**asked, max_samples=base.max_samples, dummy_s=base.dummy_s, sensor_s=base.sensor_s)


def _crossed(duration_s: float, interval_s: float, max_samples: int) -> list[Fault]:
    if interval_s > duration_s:
        return [Fault("interval_s", f"Expected at most `duration_s`, {duration_s:g}, got `{interval_s:g}`")]
    if duration_s / interval_s > max_samples * (1 + 1e-9):
        wanted = f"{duration_s / interval_s:.0f} samples, {max_samples} are taken at most: make it longer"
        return [Fault("interval_s", f"`duration_s` of {duration_s:g} asks for {wanted}")]
    return []
