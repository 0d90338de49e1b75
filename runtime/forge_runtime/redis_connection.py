"""A connection to Redis as the time series need it, and what its errors mean.

A fault is an outage or a refusal: nothing can be written now, or this command never.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal, Protocol

from forge_runtime.error import StartError

if TYPE_CHECKING:
    import redis

__all__ = ["Connection", "Outage", "OutageKind", "RedisConnection", "Refusal", "Result", "check_library"]

OutageKind = Literal[
    "connection",  # refused, lost, or no answer in time
    "login",  # the password is missing or wrong, or does not give the right
    "module",  # it has no time series
    "state",  # full, a replica, cannot save: it answers, and takes nothing
    "fault",  # of ours
]
PASSING: Final = ("BUSY", "MISCONF", "NOREPLICAS")
"""Errors that every write gets for a time, beside those that redis-py has classes for."""


class Outage(Exception):
    """Nothing can be written now."""

    def __init__(self, kind: OutageKind, text: str) -> None:
        self.kind = kind
        super().__init__(text)


class Refusal(Exception):
    """This command can never be done."""


Result = Outage | Refusal | None
"""What became of one command; None is done."""


class Connection(Protocol):
    """One connection to one Redis; after an outage it is of no use."""

    def open(self) -> None:
        """Connect, or raise Outage."""
        ...

    def send(self, commands: Sequence[bytes]) -> Sequence[Result]:
        """Send encoded commands at once, and return what became of each."""
        ...

    def close(self) -> None:
        """Close it, from any thread; a call that waits for an answer ends."""
        ...


def check_library() -> None:
    """Raise StartError where `redis` is missing: an image that sends no metrics need not have it.

    What a first connection imports is imported now, for that takes 50 ms, which no request should wait for.
    """
    try:
        importlib.import_module("redis")
        _driver()
        importlib.import_module("encodings.idna")  # of host names
    except ImportError:
        text = "SEND_METRICS: Library `redis` is not in this image: add it, or do not send metrics"
        raise StartError(text) from None


class _Untyped(Protocol):
    """What is used of redis-py's own connection."""

    def connect(self) -> None: ...

    def send_packed_command(self, command: Sequence[bytes], check_health: bool) -> None: ...

    def read_response(self) -> object: ...

    def disconnect(self) -> None: ...


class RedisConnection:
    """A connection by redis-py, without its retries: the writer has the patience."""

    def __init__(self, host: str, port: int, password: str | None, timeout_s: float) -> None:
        import redis

        connect: Callable[..., _Untyped] = redis.Connection
        self._errors = redis.exceptions
        self._connection = connect(
            host=host,
            port=port,
            password=password,
            protocol=2,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            socket_keepalive=True,
            driver_info=_driver(),
        )

    def open(self) -> None:
        """Connect and log in."""
        try:
            self._connection.connect()
        except (self._errors.RedisError, OSError) as error:
            raise self._outage(error) from error

    def send(self, commands: Sequence[bytes]) -> Sequence[Result]:
        """Send the commands and read an answer for each; where the connection is lost on the way, the rest are lost."""
        results: list[Result] = []
        try:
            self._connection.send_packed_command([b"".join(commands)], False)
            for _ in commands:
                results.append(self._read())
        except (self._errors.RedisError, OSError) as error:
            results += [self._outage(error)] * (len(commands) - len(results))
        return results

    def close(self) -> None:
        """Shut the socket down."""
        self._connection.disconnect()

    def _read(self) -> Result:
        try:
            self._connection.read_response()
        except self._errors.ResponseError as error:
            return self._sort(error)
        return None

    def _sort(self, error: redis.ResponseError) -> Result:
        text, of = str(error), self._errors
        passing = (of.ReadOnlyError, of.OutOfMemoryError, of.ClusterDownError, of.TryAgainError)
        if isinstance(error, passing) or text.split(" ", 1)[0] in PASSING:
            return Outage("state", text)
        if isinstance(error, of.NoPermissionError):
            return Outage("login", text)
        if text.lower().startswith("unknown command"):
            return Outage("module", "It has no module RedisTimeSeries: the command `TS.ADD` is unknown")
        return Refusal(text)

    def _outage(self, error: Exception) -> Outage:
        is_login = isinstance(error, self._errors.AuthenticationError)
        return Outage("login" if is_login else "connection", f"{error}" or type(error).__name__)


@functools.cache
def _driver() -> object:
    """Return what connections call themselves; redis-py would parse its own metadata for each, which takes 2 ms."""
    return importlib.import_module("redis.driver_info").DriverInfo()
