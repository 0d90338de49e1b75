"""Power by phase, in the shape that CECAIServe's clients read.

`{"idle": {"indexes": 100, "0": {...}, ...}, "preprocess": ..., "inference": ..., "postprocess": ...}`. A phase that
could not be measured is null, and `reason` says why, by phase, or under `all`. A sample is of one interval; what
stands in it is the sensor's:

- `rapl`: `timestamp`, `tag`, `duration` (seconds), and microjoules of `package_0`, `dram_0`, ...
- `nvml`: `host` (such a sample, or null), `accel` (`Power`, `GPU Name`, `GPU Index`; `accels` where there are more),
  `timestamp`
- `ina3221`: a rail's `Voltage`, `Current`, `Power` by its name, `Total Power`, `timestamp`

Beside the samples: `mean_w` and its `rails_w`, `disturbed` (samples during which a request was worked on; each is
marked, and left out of the mean where enough others are), `iterations` of the work and `joules_per_iteration`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from forge_runtime.power.bench import Bench
from forge_runtime.power.clock import Clock, SystemClock
from forge_runtime.power.discovery import Found
from forge_runtime.power.phase import BENCH, IDLE, Cancelled, Phase, PhaseFailed, run_phase
from forge_runtime.power.reader import PowerReader
from forge_runtime.power.sampler import Sample
from forge_runtime.power.settings import PowerSettings

__all__ = ["PHASES", "Bench", "measure"]

PHASES: Final = (IDLE, "preprocess", "inference", "postprocess")
ALL: Final = "all"
HOST: Final = "host"
MIN_UNDISTURBED: Final = 3
"""And a tenth of all: fewer say nothing of the phase."""
DIGITS: Final = 6

Shown = dict[str, object]


def measure(
    found: Found,
    bench: Bench,
    settings: PowerSettings | None = None,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    clock: Clock | None = None,
) -> Shown:
    """Measure one phase after the other; takes `settings.seconds`, so from a thread of its own, one at a time.

    Once `cancelled` is true it returns within a tenth of a second, with the phases that are complete.
    """
    if not found.readers:
        return {**dict.fromkeys(PHASES), "reason": {ALL: found.reason or "No sensor"}}
    meter = _Meter(found, bench, settings or PowerSettings(), clock or SystemClock(), cancelled)
    phases: Shown = {name: meter.phase(name) for name in PHASES}
    return {**phases, "reason": meter.reasons} if meter.reasons else phases


class _Meter:
    """One measurement, and who has been lost in it."""

    def __init__(
        self, found: Found, bench: Bench, settings: PowerSettings, clock: Clock, cancelled: Callable[[], bool]
    ) -> None:
        self.reasons: dict[str, str] = {}
        self._found = found
        self._bench = bench
        self._settings = settings
        self._clock = clock
        self._cancelled = cancelled
        self._lost: dict[str, str] = {}
        if all(reader.is_accelerator for reader in found.readers):
            self.reasons[HOST] = found.reason or "No sensor"

    def phase(self, name: str) -> Shown | None:
        """Measure one; None where that cannot be, for a reason that is noted."""
        readers = [reader for reader in self._found.readers if reader.name not in self._lost]
        try:
            self._check(name, readers)
            phase = run_phase(name, readers, self._bench, self._settings, clock=self._clock, cancelled=self._cancelled)
            shown, faults = _show(name, phase, self._found.readers)
        except Cancelled:
            self.reasons[name] = "Cancelled"
            return None
        except PhaseFailed as failure:
            self.reasons[name] = failure.reason
            if failure.lost:
                self._lost[failure.lost] = failure.reason
            return None
        texts = [*self._lost.values(), *(f"{sensor}: {text}" for sensor, text in faults.items())]
        if texts:
            self.reasons[name] = "; ".join(texts)
        return shown

    def _check(self, name: str, readers: Sequence[PowerReader]) -> None:
        """Raise where a phase need not be begun."""
        if self._cancelled():
            raise Cancelled
        if not readers:
            raise PhaseFailed("; ".join(self._lost.values()))
        if name == IDLE:
            return
        if BENCH in self._lost:
            raise PhaseFailed(self._lost[BENCH])
        if name not in self._bench.phases:
            raise PhaseFailed(self._bench.missing() or f"The server has no `{name}` to repeat")


def _show(name: str, phase: Phase, readers: Sequence[PowerReader]) -> tuple[Shown, dict[str, str]]:
    """Return a phase as it is answered, and what is wrong with which sensor."""
    faults = dict(phase.faults)
    for sensor, text in phase.faults.items():
        if sensor in phase.samples[0].spans:
            faults[sensor] = f"{text}, after {len(phase.samples)} samples"
    disturbed = sum(sample.disturbed for sample in phase.samples)
    calm = [sample for sample in phase.samples if not sample.disturbed]
    enough = len(calm) >= max(MIN_UNDISTURBED, len(phase.samples) // 10)
    rails, mean, dead = _means(calm if enough else phase.samples)
    faults.update(dead)
    if mean is None:
        raise PhaseFailed("; ".join(f"{sensor}: {text}" for sensor, text in faults.items()))
    shown: Shown = {"indexes": len(phase.samples)}
    for index, sample in enumerate(phase.samples):
        shown[str(index)] = _show_sample(name, sample, readers)
    shown.update({"mean_w": round(mean, DIGITS), "rails_w": rails, "disturbed": disturbed})
    if phase.iterations is not None:
        seconds = phase.seconds_per_iteration
        shown["iterations"] = phase.iterations
        shown["joules_per_iteration"] = None if seconds is None else round(mean * seconds, DIGITS)
    return shown, faults


def _means(samples: Sequence[Sample]) -> tuple[dict[str, float], float | None, dict[str, str]]:
    """Return the mean power of each rail and of all that count, and the sensors that measure nothing."""
    rails: dict[str, float] = {}
    totals: list[float] = []
    dead: dict[str, str] = {}
    for name, first in samples[0].spans.items():
        spans = [sample.spans[name] for sample in samples]
        seconds = sum(span.seconds for span in spans)
        joules: dict[str, float] = defaultdict(float)
        for span in spans:
            for rail, energy in span.joules().items():
                joules[rail] += energy
        watts: Mapping[str, float] = {rail: energy / seconds for rail, energy in joules.items()}
        total = first.total(watts)
        if total <= 0:
            dead[name] = "Says 0 W, as that of a virtual machine does"
            continue
        totals.append(total)
        rails.update({rail: round(value, DIGITS) for rail, value in watts.items()})
    return rails, sum(totals) if totals else None, dead


def _show_sample(tag: str, sample: Sample, readers: Sequence[PowerReader]) -> Shown:
    timestamp: Shown = {"timestamp": sample.time.isoformat()}
    mark: Shown = {"disturbed": True} if sample.disturbed else {}
    host: Shown = {}
    accelerator: Shown = {"accel": None}
    for reader in readers:
        if reader.name in sample.spans:
            shown = reader.sample(sample.spans[reader.name], tag)
            (accelerator if reader.is_accelerator else host).update(shown)
    if not any(reader.is_accelerator for reader in readers):
        return {**timestamp, **host, **mark}
    return {"host": {**timestamp, **host} if host else None, **accelerator, **timestamp, **mark}
