"""What a sensor says, and the power between two readings of it.

A sensor gives its power now (INA3221, NVML), or counts energy (RAPL, newer GPUs), and of a counter only
differences mean anything. A reading is a value without a past, so that the monitor and a measurement follow
the same sensor, each at its own pace and in its own thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from forge_runtime.error import ServingError

__all__ = ["PowerReader", "Rail", "Reading", "SensorError", "Span", "read_integer", "reason_of"]


class SensorError(ServingError):
    """A sensor is not there, or does not answer; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Rail:
    """One supply line at one moment; what its sensor has no word for is None."""

    watts: float | None = None
    energy_uj: int | None = None
    """Counted since some moment."""
    wraps_uj: int | None = None
    """Where the counter starts at 0 again; None: it never does."""
    volts: float | None = None
    amps: float | None = None
    counts: bool = True
    """Whether it is part of the total; not where another rail holds it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one sensor says at one moment."""

    seconds: float
    """On the monotonic clock."""
    rails: Mapping[str, Rail]


@dataclass(frozen=True, slots=True)
class Span:
    """Two readings of one sensor, and what lies between them."""

    before: Reading
    after: Reading

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.after.seconds - self.before.seconds

    def energy_uj(self) -> dict[str, int]:
        """Return what was counted on each rail that counts energy; raise SensorError for a counter that was reset."""
        return {
            name: _counted(name, self.before.rails[name], rail)
            for name, rail in self.after.rails.items()
            if rail.energy_uj is not None
        }

    def joules(self) -> dict[str, float]:
        """Return the energy of each rail, by its counter where it has one: that misses nothing between readings."""
        counted = self.energy_uj()
        return {
            name: counted[name] / 1e6 if name in counted else (rail.watts or 0.0) * self.seconds
            for name, rail in self.after.rails.items()
        }

    def watts(self) -> dict[str, float]:
        """Return the power of each rail: what its sensor says, or its energy by the time."""
        if self.seconds <= 0:
            raise SensorError("No time has passed between two readings")
        joules = self.joules()
        return {
            name: joules[name] / self.seconds if rail.watts is None else rail.watts
            for name, rail in self.after.rails.items()
        }

    def total(self, of: Mapping[str, float]) -> float:
        """Add up those rails that no other holds."""
        return sum(value for name, value in of.items() if self.after.rails[name].counts)


class PowerReader(Protocol):
    """One source of power readings; used by several threads at a time."""

    @property
    def name(self) -> str:
        """`rapl`, `nvml` or `ina3221`."""
        ...

    @property
    def is_accelerator(self) -> bool:
        """Whether it is a device beside the host, with a place of its own in a sample."""
        ...

    def read(self) -> Reading:
        """Ask the sensor now; raise SensorError where it does not answer."""
        ...

    def sample(self, span: Span, tag: str) -> dict[str, object]:
        """Show a span as CECAIServe's server did, without a timestamp."""
        ...


def read_integer(path: Path) -> int:
    """Read a file of sysfs that holds one number."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise SensorError(f"`{path}`: {reason_of(error)}") from error


def reason_of(error: OSError | ValueError) -> str:
    """Say in words why a file of sysfs is of no use."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else "Not a number"


def _counted(name: str, before: Rail, after: Rail) -> int:
    assert before.energy_uj is not None and after.energy_uj is not None  # a rail keeps its kind
    counted = after.energy_uj - before.energy_uj
    if counted >= 0:
        return counted
    wraps = after.wraps_uj or 0
    counted += wraps
    # Half a range is minutes of full load: a counter that far off was reset, by a suspend or a reload of the driver.
    if not 0 <= counted <= wraps // 2:
        raise SensorError(f"The counter of `{name}` was reset")
    return counted
