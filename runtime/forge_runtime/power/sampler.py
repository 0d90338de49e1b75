"""Readings of all sensors, at even distances."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from forge_runtime.power.bench import Bench, work_of
from forge_runtime.power.clock import Clock
from forge_runtime.power.reader import PowerReader, Reading, SensorError, Span
from forge_runtime.power.settings import PowerSettings

__all__ = ["Sample", "Sampler"]


@dataclass(frozen=True, slots=True)
class Sample:
    """What all sensors say of one interval."""

    time: datetime
    spans: Mapping[str, Span]
    """By the reader's name."""
    disturbed: bool
    """Whether a request was worked on meanwhile."""


class Sampler:
    """Asks every sensor once an interval, in a thread, until the time is over or one fails."""

    def __init__(self, readers: Sequence[PowerReader], bench: Bench, settings: PowerSettings, clock: Clock) -> None:
        self.samples: list[Sample] = []
        self.faults: dict[str, str] = {}
        """Sensor -> why it was left out, or why the samples end."""
        self.asked = ("", 0.0)
        """The sensor that has not answered yet, and since when."""
        self.stopped = threading.Event()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, name="power sampler", daemon=True)
        self._readers = {reader.name: reader for reader in readers}
        self._bench = bench
        self._settings = settings
        self._clock = clock

    def _run(self) -> None:
        try:
            self._sample()
        except BaseException as error:
            self.faults["bug"] = repr(error)
            raise
        finally:
            self.done.set()

    def _sample(self) -> None:
        interval = self._settings.interval_s
        before = {name: reading for name in self._readers if (reading := self._ask(name))}
        start, work, tick = self._clock.monotonic(), work_of(self._bench), 1
        # Ticks are counted: a sum of tenths ends before or after ten seconds.
        last = min(math.floor(self._settings.duration_s / interval + 1e-9), self._settings.max_samples)
        while before and tick <= last:
            if self._clock.wait(self.stopped, max(0.0, start + tick * interval - self._clock.monotonic())):
                return
            after = {name: reading for name in before if (reading := self._ask(name, before[name]))}
            if len(after) < len(before):
                return
            now = work_of(self._bench)
            spans = {name: Span(before[name], after[name]) for name in after}
            self.samples.append(Sample(self._clock.now(), spans, disturbed=now != work or now[1] > 0))
            before, work = after, now
            # A slow sensor misses ticks, and is not asked twice for that.
            tick = max(tick + 1, math.floor((self._clock.monotonic() - start) / interval) + 1)

    def _ask(self, name: str, before: Reading | None = None) -> Reading | None:
        self.asked = (name, self._clock.monotonic())
        try:
            reading = self._readers[name].read()
            if before is not None:
                Span(before, reading).energy_uj()  # was it reset?
        except SensorError as error:
            self.faults[name] = str(error)
            return None
        finally:
            self.asked = ("", 0.0)
        return reading
