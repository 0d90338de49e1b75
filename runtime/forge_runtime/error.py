"""The errors of the runtime.

ServingError
|-- StartError        the image is put together wrongly; exit status 2
|   |-- ConfigError   config.json or the environment
|   `-- HandlerError  the user's handler.py
|-- LoadError         the model cannot be loaded; exit status 1
|-- BackendLost       the backend's process ended; it is started again
|-- RequestError      the client's or the moment's fault; an HTTP status
`-- StepError         a hook or the backend raised; 500
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "BackendLost",
    "ConfigError",
    "Fault",
    "HandlerError",
    "LoadError",
    "RequestError",
    "ServingError",
    "StartError",
    "StepError",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong value and where it stands."""

    place: str
    """Dotted path of the value, `params.top_p`, or the name of an environment variable."""
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


class ServingError(Exception):
    """Anything that this package raises on purpose."""


class StartError(ServingError):
    """A fault that no restart can mend."""


class ConfigError(StartError):
    """Every fault of the configuration at once, on one line."""

    def __init__(self, path: str, faults: Sequence[Fault]) -> None:
        self.path = path
        self.faults = tuple(faults)
        super().__init__(f"{path}: {'; '.join(map(str, faults))}")


class HandlerError(StartError):
    """The handler's file cannot be used."""

    def __init__(self, place: str, text: str) -> None:
        self.place = place
        super().__init__(f"{place}: {text}")


class LoadError(ServingError):
    """The model cannot be served from what the image holds."""


class BackendLost(ServingError):
    """The process that held the model is gone."""


class RequestError(ServingError):
    """A request that is answered with an error body instead of a result."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str = "invalid_value",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.headers = headers
        super().__init__(message)


class StepError(ServingError):
    """A step of the lifecycle raised; the cause says what.

    The wrapper keeps out of futures what they cannot hold: a `StopIteration` set on
    an asyncio future raises there, and the request would never be answered.
    """

    def __init__(self, step: str, cause: BaseException) -> None:
        self.step = step
        super().__init__(f"Step `{step}` failed: {type(cause).__name__}: {cause}")
