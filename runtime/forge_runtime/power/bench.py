"""The work that power is measured of: the server's last request, repeated."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from forge_runtime.power.clock import Clock

__all__ = ["Bench", "Dummy", "Work", "work_of"]

Work = tuple[int, int]
"""`work_count` and `in_progress` at one moment."""


class Bench(Protocol):
    """The server, as a measurement sees it; called from threads of the measurement."""

    @property
    def phases(self) -> tuple[str, ...]:
        """Those of `preprocess`, `inference`, `postprocess` that there is something to repeat in."""
        ...

    def run_once(self, phase: str, stopped: Callable[[], bool]) -> bool:
        """Repeat one step, in the thread where it always runs, when no request waits for that; return when it is done.

        False where it was not done: the server stops, nothing is left to repeat, or `stopped` came true
        while it waited for its turn. A step that can be cut short should be, once `stopped` is true.
        """
        ...

    def work_count(self) -> int:
        """Return how many requests have begun, and how many have ended, as one sum."""
        ...

    def in_progress(self) -> int:
        """Return how many requests have begun and not ended."""
        ...

    def missing(self) -> str | None:
        """Say why there is nothing to repeat: no request has come yet; None where there is something."""
        ...


def work_of(bench: Bench) -> Work:
    """Note where requests stand."""
    return bench.work_count(), bench.in_progress()


class Dummy:
    """Repeats one step, in a thread, until it is stopped."""

    def __init__(self, phase: str, bench: Bench, clock: Clock) -> None:
        self.phase = phase
        self.stopped = threading.Event()
        self.ended = threading.Event()
        self.iterations = 0
        self.fault = ""
        self.thread = threading.Thread(target=self._run, name="power dummy", daemon=True)
        self._bench = bench
        self._clock = clock
        self._seconds = 0.0
        self._work: Work = (0, 0)

    def seconds_per_iteration(self) -> float | None:
        """Return how long one takes; None where none was done, or requests came between."""
        if not self.iterations or self._work[1] or self._work != work_of(self._bench):
            return None
        return self._seconds / self.iterations

    def _run(self) -> None:
        self._work = work_of(self._bench)
        started = self._clock.monotonic()
        try:
            while not self.stopped.is_set():
                if self._bench.run_once(self.phase, self.stopped.is_set):
                    self.iterations += 1
                    self._seconds = self._clock.monotonic() - started
                elif not self.stopped.is_set():
                    self.fault = f"The server stops, or has no `{self.phase}` to repeat"
                    return
        except BaseException as error:
            self.fault = f"A dummy `{self.phase}` raised {type(error).__name__}: {error}"
        finally:
            self.ended.set()
