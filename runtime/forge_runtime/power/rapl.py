"""Energy of the processor: RAPL, as the kernel shows it under /sys/class/powercap (Intel; AMD since Linux 5.8).

A package is the whole processor of a socket; `core` and `uncore` are parts of it. `dram`, where a server has it, is
memory beside the package. `psys` is the whole board and holds them all, but few boards have it and some wrongly.
So the total is packages and drams, and the rest is shown without being counted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge_runtime.power.reader import Rail, Reading, SensorError, Span, read_integer, reason_of

__all__ = ["RaplReader", "find_rapl"]

FOLDER: Final = Path("sys/class/powercap")
ZONE: Final = re.compile(r"intel-rapl(?P<mmio>-mmio)?:(?P<socket>[0-9]+)(?P<part>:[0-9]+)?")
COUNTED: Final = ("package", "dram")


@dataclass(frozen=True, slots=True)
class Zone:
    """One counter of the kernel."""

    energy: Path
    wraps_uj: int | None


class RaplReader:
    """The energy counters of all sockets."""

    name = "rapl"
    is_accelerator = False

    def __init__(self, zones: Mapping[str, Zone], clock: Callable[[], float] = time.monotonic) -> None:
        self._zones = dict(zones)
        self._clock = clock

    def read(self) -> Reading:
        """Read every counter."""
        seconds = self._clock()
        rails = {
            name: Rail(energy_uj=read_integer(zone.energy), wraps_uj=zone.wraps_uj, counts=name.startswith(COUNTED))
            for name, zone in self._zones.items()
        }
        return Reading(seconds, rails)

    def sample(self, span: Span, tag: str) -> dict[str, object]:
        """Show microjoules per rail; `duration` is in seconds, as pyJoules has it."""
        return {"tag": tag, "duration": round(span.seconds, 6), **span.energy_uj()}


def find_rapl(root: Path, clock: Callable[[], float] = time.monotonic) -> RaplReader:
    """Find the counters below `root`; raise SensorError where there is none to read."""
    folder = root / FOLDER
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    matches = [match for match in map(ZONE.fullmatch, names) if match]
    if not matches:
        raise SensorError(f"No `intel-rapl` in `{folder}`: the processor, or the virtual machine, has no RAPL")
    zones: dict[str, Zone] = {}
    faults: list[str] = []
    # Newer processors show a package a second time through memory-mapped registers: the first of a name is taken.
    for match in sorted(matches, key=lambda match: bool(match["mmio"])):
        try:
            rail = _rail(folder, match)
            if rail not in zones:
                zones[rail] = _open(folder / match.string)
        except (OSError, ValueError) as error:
            faults.append(_fault(folder / match.string, error))
    if not any(name.startswith("package") for name in zones):
        raise SensorError(faults[0] if faults else f"No zone in `{folder}` is a whole package")
    return RaplReader(dict(sorted(zones.items(), key=lambda zone: _rank(zone[0]))), clock)


def _rail(folder: Path, match: re.Match[str]) -> str:
    """Name a zone as pyJoules did: `package_0`, `dram_0`."""
    name = (folder / match.string / "name").read_text(encoding="ascii").strip()
    if not match["part"]:
        return name.replace("-", "_") if name.startswith("package") else f"{name}_{match['socket']}"
    package = (folder / match.string.rpartition(":")[0] / "name").read_text(encoding="ascii").strip()
    # A socket of several dies has a zone per die, `package-0-die-1`.
    return f"{name}_{package.removeprefix('package-').replace('-', '_')}"


def _open(zone: Path) -> Zone:
    energy = zone / "energy_uj"
    int(energy.read_text(encoding="ascii"))  # may it be read?
    try:
        wraps = read_integer(zone / "max_energy_range_uj")
    except SensorError:
        wraps = 0
    return Zone(energy, wraps if wraps > 0 else None)


def _fault(zone: Path, error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return (
            f"`{zone / 'energy_uj'}`: May be read by root only (CVE-2020-8694): run the container with `--user 0`, "
            "or `chmod a+r` it on the host"
        )
    if isinstance(error, FileNotFoundError) and zone.is_symlink() and not zone.exists():
        return (
            f"`{zone}`: The container hides what it points to: run it with `--security-opt systempaths=unconfined`, "
            "and `--user 0`"
        )
    return f"`{zone}`: {reason_of(error)}"


def _rank(rail: str) -> tuple[int, str]:
    kinds = (*COUNTED, "core", "uncore")
    return next((rank for rank, kind in enumerate(kinds) if rail.startswith(kind)), len(kinds)), rail
