"""The phases of a service, repeated when it has nothing else to do."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any

from forge_runtime.engine import Engine, State
from forge_runtime.worker import Job, QueueFullError

__all__ = ["IdleBench"]

POLL_S = 0.05
PHASES = ("preprocess", "inference", "postprocess")


class IdleBench:
    """Repeats the first request that was served: a measurement's Bench.

    The model's step is run when no request waits, and a text is broken off as soon as one does.
    """

    def __init__(self, engine: Engine, in_progress: Callable[[], int]) -> None:
        self._engine = engine
        self._in_progress = in_progress

    @property
    def phases(self) -> tuple[str, ...]:
        """Those that can be repeated."""
        return PHASES if self._engine.sample is not None else ()

    def run_once(self, phase: str, stopped: Callable[[], bool]) -> bool:
        """Repeat a phase; False where there is nothing to repeat any more, or it was stopped."""
        sample = self._engine.sample
        if sample is None or self._engine.state is not State.READY:
            return False
        method, decoded, results = sample
        try:
            if phase == "inference":
                return self._infer(
                    lambda busy: method.infer([method.bind(method.preprocess(decoded), busy, None)]), stopped
                )
            if phase == "preprocess":
                return self._wait(self._engine.submit_hook(lambda: method.preprocess(decoded)), stopped)
            job = self._engine.submit_hook(lambda: method.encode(method.postprocess(decoded, results)))
            return self._wait(job, stopped)
        except QueueFullError:
            return False  # the server ends

    def work_count(self) -> int:
        """Count the batches that were begun."""
        return self._engine.batches

    def in_progress(self) -> int:
        """Count the requests that were begun and have not ended."""
        return self._in_progress()

    def missing(self) -> str | None:
        """Say why there is nothing to repeat."""
        return None if self._engine.sample is not None else "No request was served yet; send one to `/api/infer` first"

    def _infer(self, call: Callable[[Callable[[], bool]], Any], stopped: Callable[[], bool]) -> bool:
        return self._wait(self._engine.submit_idle(lambda busy: call(lambda: busy() or stopped())), stopped)

    def _wait(self, job: Job, stopped: Callable[[], bool]) -> bool:
        while not stopped():
            try:
                job.future.result(POLL_S)
            except concurrent.futures.TimeoutError:
                continue
            return True
        self._engine.withdraw(job)
        return False
