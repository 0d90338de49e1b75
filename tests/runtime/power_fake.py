"""Sensors, a clock and a server to measure, all without a machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from forge_runtime.power.discovery import Found
from forge_runtime.power.nvml import NvmlError
from forge_runtime.power.reader import PowerReader, Rail, Reading, SensorError, Span

START = datetime(2026, 1, 1, tzinfo=UTC)


def write(root: Path, files: Mapping[str, object]) -> None:
    """Write a tree of sysfs."""
    for name, value in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")


def write_rapl(root: Path, zones: Mapping[str, tuple[str, int]], wraps_uj: int = 262_143_328_850) -> None:
    """Write the kernel's folders: zone -> its name, and its counter."""
    for zone, (name, energy) in zones.items():
        folder = f"sys/class/powercap/{zone}"
        files = {"name": name, "energy_uj": energy, "max_energy_range_uj": wraps_uj}
        write(root, {f"{folder}/{file}": value for file, value in files.items()})


def write_ina3221(root: Path, chips: Mapping[str, Sequence[tuple[str, int, int] | None]]) -> None:
    """Write the driver's folders: address -> label, millivolts and milliamperes of each channel."""
    for number, (address, channels) in enumerate(chips.items()):
        folder = f"sys/bus/i2c/drivers/ina3221/{address}/hwmon/hwmon{number + 1}"
        write(root, {f"{folder}/name": "ina3221"})
        for channel, rail in enumerate(channels, 1):
            if rail is not None:
                label, volts, amps = rail
                files = {f"in{channel}_label": label, f"in{channel}_input": volts, f"curr{channel}_input": amps}
                write(root, {f"{folder}/{file}": value for file, value in files.items()})


class FakeClock:
    """Time that passes when somebody waits; `on_wait` is called with each wait's end."""

    def __init__(self, on_wait: Callable[[float], None] = lambda _: None) -> None:
        self.on_wait = on_wait
        self._time = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return self._time

    def now(self) -> datetime:
        return START + timedelta(seconds=self._time)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        with self._lock:
            self._time += seconds
            self.on_wait(self._time)
        return event.is_set()


class FakeReader:
    """A sensor of one rail; `watts` is called with the time, and may raise."""

    def __init__(
        self,
        watts: Callable[[float], float],
        clock: Callable[[], float],
        *,
        name: str = "fake",
        is_accelerator: bool = False,
    ) -> None:
        self.name = name
        self.is_accelerator = is_accelerator
        self._watts = watts
        self._clock = clock

    def read(self) -> Reading:
        seconds = self._clock()
        return Reading(seconds, {self.name: Rail(watts=self._watts(seconds))})

    def sample(self, span: Span, tag: str) -> dict[str, object]:
        power = span.after.rails[self.name].watts
        return {"accel": {"Power": power}} if self.is_accelerator else {"tag": tag, self.name: power}


def found(*readers: PowerReader, **reasons: str) -> Found:
    """What there is to measure with."""
    return Found(readers, reasons)


def raising(error: str) -> Callable[[float], float]:
    """A sensor that does not answer."""

    def watts(_: float) -> float:
        raise SensorError(error)

    return watts


class FakeBench:
    """A server that repeats one long step: it is over when it is told to stop."""

    def __init__(self, *phases: str, missing: str | None = None) -> None:
        self.phases = phases
        self.entered = threading.Event()
        self.ran: list[str] = []
        self.work = (0, 0)
        self._missing = missing

    def run_once(self, phase: str, stopped: Callable[[], bool]) -> bool:
        self.ran.append(phase)
        self.entered.set()
        while not stopped():
            threading.Event().wait(0.001)
        return True

    def work_count(self) -> int:
        return self.work[0]

    def in_progress(self) -> int:
        return self.work[1]

    def missing(self) -> str | None:
        return self._missing


class FakeNvml:
    """NVML with GPUs of some power; a value that is an int is an error's number."""

    def __init__(self, *powers: float | int, counts_energy: bool = False) -> None:
        self.powers = list(powers)
        self.counts_energy = counts_energy
        self.energy = 0

    def count(self) -> int:
        return len(self.powers)

    def device(self, index: int) -> int:
        return 100 + index

    def uuid(self, device: int) -> str:
        return f"GPU-{device - 100:08x}-aaaa"

    def title(self, device: int) -> str:
        return f"Fake {device - 100}"

    def power_mw(self, device: int) -> int:
        power = self.powers[device - 100]
        if isinstance(power, int):
            raise NvmlError("nvmlDeviceGetPowerUsage", power, "Not Supported")
        return round(power * 1000)

    def energy_mj(self, device: int) -> int:
        if not self.counts_energy:
            raise NvmlError("nvmlDeviceGetTotalEnergyConsumption", 3, "Not Supported")
        return self.energy


def power_threads() -> list[str]:
    """Name the threads that measure."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("power")]
