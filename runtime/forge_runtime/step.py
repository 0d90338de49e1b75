"""The time that each step takes, and what it raises."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from forge_runtime.error import RequestError, StepError
from forge_runtime.metric import Metrics

__all__ = ["StepClock"]

Result = TypeVar("Result")


class StepClock:
    """Notes seconds by step, for one request and for all."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def timed(self, step: str, seconds: dict[str, float], call: Callable[[], Result]) -> Result:
        """Do a step; raise StepError for all that it raises but a RequestError."""
        started = time.perf_counter()
        try:
            return call()
        except (RequestError, StepError):
            raise
        except BaseException as error:
            raise StepError(step, error) from error
        finally:
            self.record(step, seconds, started)

    def record(self, step: str, seconds: dict[str, float], started: float) -> None:
        """Note a step that began at `started`."""
        taken = time.perf_counter() - started
        seconds[step] = round(taken, 6)
        self._metrics.steps.labels(step).observe(taken)
