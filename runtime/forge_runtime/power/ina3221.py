"""Power of a Jetson module: INA3221, a sensor of three supply lines, as the kernel's hwmon shows it (JetPack 5 and 6).

The rails that count are those of NVIDIA's "Software-Based Power Consumption Modeling". Not run on hardware.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge_runtime.power.reader import Rail, Reading, SensorError, Span, read_integer

__all__ = ["Ina3221Reader", "find_ina3221"]

DRIVER: Final = Path("sys/bus/i2c/drivers/ina3221")
CLASS: Final = Path("sys/class/hwmon")
CHANNELS: Final = (1, 2, 3)
"""The kernel's 4 to 7 are shunt voltages and their sum."""
NOT_CONNECTED: Final = "NC"
INPUTS: Final = ("VDD_IN", "POM_5V_IN")
"""What feeds the whole module (Orin NX and Nano, Xavier NX): the others are parts of it."""
PARTS: Final = ("VDDQ_VDD2_1V8AO",)
"""Memory of AGX Orin: part of VIN_SYS_5V0."""
CARRIER: Final = "CVB_"
"""What the carrier board of an industrial AGX Orin is fed with: the module is part of it."""


@dataclass(frozen=True, slots=True)
class Channel:
    """The files of one rail."""

    millivolts: Path
    milliamps: Path

    def read(self, *, counts: bool) -> Rail:
        """Ask the chip; each file is half a millisecond on its bus."""
        volts = read_integer(self.millivolts) / 1000
        amps = read_integer(self.milliamps) / 1000
        return Rail(watts=volts * amps, volts=volts, amps=amps, counts=counts)


class Ina3221Reader:
    """All rails of all such chips."""

    name = "ina3221"
    is_accelerator = False

    def __init__(self, channels: Mapping[str, Channel], clock: Callable[[], float] = time.monotonic) -> None:
        self._channels = dict(channels)
        self._counted = _counted(tuple(self._channels))
        self._clock = clock

    def read(self) -> Reading:
        """Read every rail."""
        seconds = self._clock()
        rails = {name: channel.read(counts=name in self._counted) for name, channel in self._channels.items()}
        return Reading(seconds, rails)

    def sample(self, span: Span, tag: str) -> dict[str, object]:
        """Show volts, amperes and watts per rail, and the sum of those that count."""
        shown: dict[str, object] = {
            name: {"Voltage": rail.volts, "Current": rail.amps, "Power": rail.watts}
            for name, rail in span.after.rails.items()
        }
        return {**shown, "Total Power": span.total(span.watts())}


def find_ina3221(root: Path, clock: Callable[[], float] = time.monotonic) -> Ina3221Reader:
    """Find the chips below `root`; raise SensorError where there is none to read."""
    channels: dict[str, Channel] = {}
    fault = ""
    for chip in _chips(root):
        for number in CHANNELS:
            channel = Channel(chip / f"in{number}_input", chip / f"curr{number}_input")
            try:
                label = _label(chip, number)
                channel.read(counts=True)
            except SensorError as error:
                fault = fault or str(error)  # a channel that is switched off has no data
                continue
            if label != NOT_CONNECTED:
                channels[label] = channel
    if not channels:
        raise SensorError(fault or f"No `ina3221` in `{root / CLASS}` or `{root / DRIVER}`: not a Jetson")
    return Ina3221Reader(channels, clock)


def _chips(root: Path) -> Iterator[Path]:
    """Give each hwmon folder, by its driver and by its class: most are there twice, and their rails are the same."""
    yield from sorted((root / DRIVER).glob("*-*/hwmon/hwmon*"))
    yield from (path for path in sorted((root / CLASS).glob("hwmon*")) if _text(path / "name") == "ina3221")


def _label(chip: Path, number: int) -> str:
    bus = chip.resolve().parent.parent.name  # `1-0040`
    return _text(chip / f"in{number}_label") or f"{bus}_ch{number}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _counted(names: tuple[str, ...]) -> tuple[str, ...]:
    inputs = tuple(name for name in names if name in INPUTS)
    return inputs or tuple(name for name in names if name not in PARTS and not name.startswith(CARRIER))
