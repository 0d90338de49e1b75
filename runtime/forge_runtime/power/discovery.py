"""Which sensors a machine has, and why it has not the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from forge_runtime.power.ina3221 import find_ina3221
from forge_runtime.power.nvml import Nvml, NvmlLibrary, find_nvml
from forge_runtime.power.rapl import find_rapl
from forge_runtime.power.reader import PowerReader, SensorError

__all__ = ["Found", "find_readers"]


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to measure with."""

    readers: tuple[PowerReader, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Source that is not there -> why, and what would mend it."""

    @property
    def reason(self) -> str:
        """All reasons as one text."""
        return "; ".join(f"{name}: {text}" for name, text in self.reasons.items())


def find_readers(
    root: Path = Path("/"),
    *,
    nvml: Callable[[], Nvml] | None = NvmlLibrary,
    environ: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """Look for every kind of sensor below `root`; once in a process, for NVML is initialised by it."""

    def gpus() -> PowerReader:
        if nvml is None:
            raise SensorError("Not looked for")
        return find_nvml(nvml(), environ, clock)

    finders: dict[str, Callable[[], PowerReader]] = {
        "rapl": lambda: find_rapl(root, clock),
        "nvml": gpus,
        "ina3221": lambda: find_ina3221(root, clock),
    }
    readers: list[PowerReader] = []
    reasons: dict[str, str] = {}
    for name, find in finders.items():
        try:
            readers.append(find())
        except SensorError as error:
            reasons[name] = str(error)
        except OSError as error:  # a folder of sysfs that may not be listed
            reasons[name] = f"`{error.filename}`: {error.strerror}"
    return Found(tuple(readers), reasons)
