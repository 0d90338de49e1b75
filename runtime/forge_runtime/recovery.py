"""A lost backend is loaded again, later and later where it keeps being lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from forge_runtime import log
from forge_runtime.worker import Job, Worker

__all__ = ["Recovery"]

logger = logging.getLogger(__name__)

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
CALM_S = 60.0
"""After which a loss is the first of its kind again, and is mended at once."""
MAX_FAILURES = 5
"""Loads that may fail one after the other; then the process ends, for whoever started it to judge."""


class Recovery:
    """Puts the reload before all that waits for the model, in the model's thread."""

    def __init__(
        self,
        worker: Worker,
        load: Callable[[], None],
        began: Callable[[], None],
        done: Callable[[bool], None],
        give_up: Callable[[], None],
    ) -> None:
        self._worker = worker
        self._load = load
        self._began = began
        self._done = done
        self._give_up = give_up
        self._lock = threading.Lock()
        self._running = False
        self._lost_again = False
        self._losses = 0
        self._since = 0.0

    def begin(self) -> None:
        """Reload as soon as the model's thread is free; from any thread."""
        with self._lock:
            self._lost_again = True
            self._began()
            if self._running:
                return
            self._running = True
        self._worker.interpose(Job(self._run))

    def _run(self, jobs: Sequence[Job]) -> None:
        if time.monotonic() - self._since > CALM_S:
            self._losses = 0
        failures = 0
        while not self._worker.wait_closed(self._delay()):
            self._losses += 1
            self._lost_again = False
            try:
                self._load()
            except BaseException as error:
                failures += 1
                log.event(logger, logging.ERROR, f"The model cannot be loaded again: {error}")
                if failures < MAX_FAILURES:
                    continue
                self._done(False)
                self._give_up()
                break
            if self._finish():
                log.event(logger, logging.INFO, "Ready again", {"losses": self._losses})
                break
        jobs[0].future.set_result(None)

    def _delay(self) -> float:
        return min(FIRST_DELAY_S * 2 ** (self._losses - 1), MAX_DELAY_S) if self._losses else 0.0

    def _finish(self) -> bool:
        """Return whether the model is still there, now that it is loaded."""
        with self._lock:
            if self._lost_again:
                return False
            self._running = False
            self._since = time.monotonic()
            # Under the lock: a loss that comes now must find it said, or it would be unsaid.
            self._done(True)
        return True
