"""The thread that writes points to Redis, and the buffer before it.

After an outage the connection is closed, and the points are kept for the next try: after up to 0.2 s, 0.4 s, and so
on to 30 s, each time a random part of it, so that many servers do not come back at once. A point that is refused for
its own sake is let go, else it would stop all behind it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, get_args

from forge_runtime import log
from forge_runtime.redis_connection import Connection, Outage, OutageKind, Refusal

__all__ = ["SYSTEM", "Buffer", "Point", "Timing", "Writer"]

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 0.2
FIRST_DELAY_S: Final = 0.1
MAX_DELAY_S: Final = 30.0
MAX_DOUBLINGS: Final = 16
CALM_S: Final = 60.0
"""After which an outage is the first of its kind again; one that comes and goes is met ever more slowly."""
ABORT_S: Final = 0.2
BATCH: Final = 64
"""Points sent at once. To encode them takes a quarter of a millisecond, in which no request is served."""


class Point(NamedTuple):
    """One value of one metric."""

    metric: str
    time_ms: int
    value: float


@dataclass(frozen=True, slots=True)
class Timing:
    """The clocks and the chance that a writer goes by."""

    now: Callable[[], float] = time.time
    """Seconds since the epoch."""
    monotonic: Callable[[], float] = time.monotonic
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait
    """Wait for the event, or so many seconds."""
    jitter: Callable[[], float] = random.random
    """From 0 to 1."""


SYSTEM: Final = Timing()


class Buffer:
    """Points that wait; with more than `limit` the oldest are dropped."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._points: deque[Point] = deque()
        self._taken = 0
        self.written = 0
        self.dropped = 0
        self.refused = 0

    def add(self, points: Sequence[Point]) -> None:
        """Append points."""
        with self._lock:
            self._points.extend(points)
            for _ in range(len(self._points) + self._taken - self._limit):
                self._points.popleft()
                self.dropped += 1

    def take(self, count: int) -> list[Point]:
        """Take up to `count` of the oldest out, until they are settled."""
        with self._lock:
            self._taken = min(count, len(self._points))
            return [self._points.popleft() for _ in range(self._taken)]

    def settle(self, *, back: Sequence[Point] = (), refused: int = 0) -> None:
        """Say what became of the points taken: `back` wait again, some were refused, all others written."""
        with self._lock:
            self._points.extendleft(reversed(back))
            self.refused += refused
            self.written += self._taken - len(back) - refused
            self._taken = 0

    @property
    def pending(self) -> int:
        """Points that wait or are taken."""
        with self._lock:
            return len(self._points) + self._taken


class Writer:
    """Empties the buffer from a thread of its own."""

    def __init__(
        self,
        buffer: Buffer,
        encode: Callable[[Point], bytes],
        connect: Callable[[], Connection],
        *,
        timing: Timing,
        where: str,
    ) -> None:
        self._buffer = buffer
        self._encode = encode
        self._connect = connect
        self._timing = timing
        self._where = where
        self._thread = threading.Thread(target=self._run, name="timeseries", daemon=True)
        self._closing = threading.Event()
        self._end = 0.0
        self._connection: Connection | None = None
        self._failures = 0
        self._failed_at = float("-inf")
        self._told: set[str] = set()
        self.failed = 0
        self.connected = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Let the thread write for so long, then end it."""
        self._end = self._timing.monotonic() + timeout_s
        self._closing.set()
        if self._thread.ident is None:
            return
        self._thread.join(timeout_s)
        connection = self._connection
        if self._thread.is_alive() and connection is not None:
            connection.close()
            # Connecting cannot be cut off: such a thread ends by itself, after the connection's timeout.
            self._thread.join(ABORT_S)
        if self._buffer.pending:
            log.event(logger, logging.WARNING, "The last points were not written", self._fields())

    def _run(self) -> None:
        while not self._closing.is_set():
            self._timing.wait(self._closing, self._turn())
        if self._is_in_time():
            self._turn()
        self._disconnect()

    def _turn(self) -> float:
        """Write what there is, and return how long to wait then."""
        try:
            self._write_all()
        except Outage as outage:
            return self._lost(outage)
        except Exception as error:
            # Without its one thread nothing would be written any more, and nothing would say so.
            return self._lost(Outage("fault", repr(error)), error)
        return INTERVAL_S

    def _write_all(self) -> None:
        if self._connection is None:
            self._connection = self._connect()
            self._connection.open()
        while self._is_in_time() and (points := self._buffer.take(BATCH)):
            self._write(self._connection, points)
            self._found()
        self._found()

    def _is_in_time(self) -> bool:
        return not self._closing.is_set() or self._timing.monotonic() < self._end

    def _write(self, connection: Connection, points: Sequence[Point]) -> None:
        try:
            results = connection.send([self._encode(point) for point in points])
            settled = list(zip(points, results, strict=True))
        except BaseException:
            self._buffer.settle(back=points)
            raise
        refused = [(point, result) for point, result in settled if isinstance(result, Refusal)]
        back = [point for point, result in settled if isinstance(result, Outage)]
        self._buffer.settle(back=back, refused=len(refused))
        for point, refusal in refused:
            self._tell(point.metric, f"Redis refuses points of `{point.metric}`: {refusal}; they are let go")
        for result in results:
            if isinstance(result, Outage):
                raise result

    def _found(self) -> None:
        if not self.connected:
            self.connected = True
            self._told.difference_update(get_args(OutageKind))
            log.event(logger, logging.INFO, "Redis takes points", self._fields())

    def _lost(self, outage: Outage, error: Exception | None = None) -> float:
        self._disconnect()
        self.connected = False
        self.failed += 1
        now = self._timing.monotonic()
        self._failures = self._failures + 1 if now - self._failed_at < CALM_S else 1
        self._failed_at = now
        self._tell(outage.kind, f"Redis takes no points: {outage}; the newest are kept", error)
        # A module does not appear as a connection does.
        doublings = MAX_DOUBLINGS if outage.kind == "module" else min(self._failures, MAX_DOUBLINGS)
        return self._timing.jitter() * min(MAX_DELAY_S, FIRST_DELAY_S * 2.0**doublings)

    def _tell(self, what: str, message: str, error: Exception | None = None) -> None:
        """Log an outage once while it lasts, and a refused metric once; not that `close` has cut the connection."""
        if what not in self._told and self._is_in_time():
            self._told.add(what)
            log.event(logger, logging.WARNING, message, self._fields(), error=error)

    def _fields(self) -> dict[str, object]:
        return {"redis": self._where, "pending": self._buffer.pending, "dropped": self._buffer.dropped}

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
