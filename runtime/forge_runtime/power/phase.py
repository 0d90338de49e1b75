"""One phase of a measurement: work in one thread, readings in another, and a caller that never waits for ever.

A thread cannot be ended from outside. So both are daemons that look at an event, the caller waits for each with a
limit, and who is lost is named: nothing is asked of it again. No process is forked: it would hold a copy of CUDA's
state and of every lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from forge_runtime.power.bench import Bench, Dummy
from forge_runtime.power.clock import Clock
from forge_runtime.power.reader import PowerReader
from forge_runtime.power.sampler import Sample, Sampler
from forge_runtime.power.settings import PowerSettings

__all__ = ["BENCH", "IDLE", "Cancelled", "Phase", "PhaseFailed", "run_phase"]

IDLE: Final = "idle"
BENCH: Final = "bench"
SLICE_S: Final = 0.05
"""How often the caller looks up."""


class Cancelled(Exception):
    """Nobody wants the result any more."""


class PhaseFailed(Exception):
    """A phase has no result; `lost` is who does not answer any more, a reader's name or `BENCH`."""

    def __init__(self, reason: str, lost: str | None = None) -> None:
        self.reason = reason
        self.lost = lost
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Phase:
    """What came of one."""

    samples: Sequence[Sample]
    faults: Mapping[str, str]
    """Sensor that failed -> how; the samples began without it, or end there."""
    iterations: int | None
    """None where there is no work."""
    seconds_per_iteration: float | None
    """None where requests came between, or no step was finished."""


def run_phase(
    name: str,
    readers: Sequence[PowerReader],
    bench: Bench,
    settings: PowerSettings,
    *,
    clock: Clock,
    cancelled: Callable[[], bool],
) -> Phase:
    """Cool down, let the work run, take samples, end the work; raise PhaseFailed or Cancelled."""
    dummy = None if name == IDLE else Dummy(name, bench, clock)
    sampler = Sampler(readers, bench, settings, clock)
    watch = _Watch(clock, cancelled)
    try:
        watch.sleep(settings.cooldown_s)
        if dummy is not None:
            watch.dummy = dummy
            dummy.thread.start()
        watch.sleep(settings.ramp_s)
        sampler.thread.start()
        watch.wait_sampled(sampler, settings.sensor_s)
        if dummy is not None:
            dummy.stopped.set()
            watch.wait_ended(dummy, settings.dummy_s)
    finally:
        _end(sampler, dummy)
    return _judge(name, sampler, dummy)


def _end(*runners: Sampler | Dummy | None) -> None:
    for runner in runners:
        if runner is not None:
            runner.stopped.set()
    for runner in runners:
        if runner is not None and runner.thread.ident is not None:
            runner.thread.join(SLICE_S)


def _judge(name: str, sampler: Sampler, dummy: Dummy | None) -> Phase:
    if not sampler.samples:
        raise PhaseFailed("; ".join(f"{sensor}: {text}" for sensor, text in sampler.faults.items()))
    if dummy is None:
        return Phase(sampler.samples, sampler.faults, None, None)
    if dummy.fault:
        raise PhaseFailed(dummy.fault)
    if not dummy.iterations and all(sample.disturbed for sample in sampler.samples):
        raise PhaseFailed(f"No dummy `{name}` had its turn: requests kept the server busy")
    return Phase(sampler.samples, sampler.faults, dummy.iterations, dummy.seconds_per_iteration())


@dataclass(slots=True)
class _Watch:
    """The caller's waiting: in slices, between which it looks whether to go on."""

    clock: Clock
    cancelled: Callable[[], bool]
    dummy: Dummy | None = None

    def check(self) -> None:
        """Raise where there is no reason to wait any longer."""
        if self.cancelled():
            raise Cancelled
        if self.dummy is not None and self.dummy.ended.is_set():
            raise PhaseFailed(self.dummy.fault)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        event = threading.Event() if self.dummy is None else self.dummy.ended
        end = self.clock.monotonic() + seconds
        self.check()
        while (left := end - self.clock.monotonic()) > 0:
            self.clock.wait(event, min(left, SLICE_S))
            self.check()

    def wait_sampled(self, sampler: Sampler, limit_s: float) -> None:
        """Wait until all samples are taken, as long as sensors answer."""
        while not sampler.done.wait(SLICE_S):
            self.check()
            asked, since = sampler.asked
            if asked and self.clock.monotonic() - since > limit_s:
                raise PhaseFailed(f"{asked}: No answer for {limit_s:g} s", lost=asked)
        self.check()

    def wait_ended(self, dummy: Dummy, limit_s: float) -> None:
        """Wait until the work has ended, as it was told to."""
        end = self.clock.monotonic() + limit_s
        while not dummy.ended.wait(SLICE_S):
            if self.cancelled():
                raise Cancelled
            if self.clock.monotonic() > end:
                text = f"A dummy `{dummy.phase}` has not ended {limit_s:g} s after it was told to"
                raise PhaseFailed(text, lost=BENCH)
