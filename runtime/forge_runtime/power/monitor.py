"""The present power, for Prometheus and the status page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from forge_runtime.power.discovery import Found
from forge_runtime.power.reader import PowerReader, Reading, SensorError, Span

__all__ = ["PowerMonitor"]

TOTAL: Final = "total"
STOP_S: Final = 1.0


class PowerMonitor:
    """Reads every sensor once an interval, in a thread of its own."""

    def __init__(self, found: Found, interval_s: float = 1.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._found = found
        self._interval_s = interval_s
        self._clock = clock
        self._followers = [_Follower(reader) for reader in found.readers]
        self._stopped = threading.Event()
        # A daemon: a sensor that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="power monitor", daemon=True)

    def start(self) -> None:
        """Begin to read; does nothing where there is no sensor."""
        if self._followers:
            self._thread.start()

    def stop(self) -> None:
        """Read no more."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)

    def watts(self) -> Mapping[str, float] | None:
        """Return the power of each rail, and `total` where no sensor is missing; None where none answers."""
        found: dict[str, float] = {}
        totals: list[float] = []
        for follower in self._followers:
            answer = follower.latest
            if answer is not None and not self._is_old(answer):
                found.update(answer.watts)
                totals.append(answer.total)
        if totals and len(totals) == len(self._followers):
            found[TOTAL] = sum(totals)
        return found or None

    @property
    def reason(self) -> str | None:
        """Why `watts` has no total; None where it has one."""
        if not self._followers:
            return self._found.reason or "No sensor"
        faults: list[str] = []
        for follower in self._followers:
            answer = follower.latest
            if answer is None or self._is_old(answer):
                faults.append(f"{follower.name}: {follower.fault or ('Not read yet' if answer is None else 'Silent')}")
        return "; ".join(faults) or None

    def _run(self) -> None:
        while not self._stopped.is_set():
            for follower in self._followers:
                follower.step()
            self._stopped.wait(self._interval_s)

    def _is_old(self, answer: _Answer) -> bool:
        # Two readings make one power, and one may come late.
        return self._clock() - answer.seconds > 3 * self._interval_s + 1


class _Answer(NamedTuple):
    """Power at one moment; replaced as a whole, so that another thread never sees half of it."""

    seconds: float
    watts: Mapping[str, float]
    total: float


class _Follower:
    """What is known of one sensor."""

    def __init__(self, reader: PowerReader) -> None:
        self.name = reader.name
        self.latest: _Answer | None = None
        self.fault = ""
        self._reader = reader
        self._before: Reading | None = None

    def step(self) -> None:
        """Read once."""
        try:
            after = self._reader.read()
            if self._before is None:
                self._before = after
                return
            span = Span(self._before, after)
            watts = span.watts()
        except SensorError as error:
            self.fault = str(error)
            self._before = self.latest = None
            return
        total = span.total(watts)
        if total <= 0:
            # Some virtual machines' counters move once a second: this span goes on until then.
            self.fault = "Says 0 W"
            return
        self.fault = ""
        self._before = after
        self.latest = _Answer(after.seconds, watts, total)
