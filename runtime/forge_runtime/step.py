"""The time that each step takes, and what it raises."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from forge_runtime.error import RequestError, StepError

__all__ = ["note", "timed"]

Result = TypeVar("Result")


def timed(step: str, seconds: dict[str, float], call: Callable[[], Result]) -> Result:
    """Do a step and note its time; raise StepError for all that it raises but a RequestError."""
    started = time.perf_counter()
    try:
        return call()
    except (RequestError, StepError):
        raise
    except BaseException as error:
        raise StepError(step, error) from error
    finally:
        note(step, seconds, started)


def note(step: str, seconds: dict[str, float], started: float) -> None:
    """Note a step that began at `started`; Prometheus hears of it at the request's end, when nobody waits any more."""
    seconds[step] = round(time.perf_counter() - started, 6)
