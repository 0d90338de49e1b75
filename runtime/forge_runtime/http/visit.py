"""One request at an endpoint of the model: its deadline, its client, its end on record."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from forge_runtime import log
from forge_runtime.config import ServerConfig
from forge_runtime.error import RequestError, StepError
from forge_runtime.exchange import Exchange
from forge_runtime.http.body import BodyReader
from forge_runtime.http.observer import REQUEST_ID
from forge_runtime.http.refusal import client_left
from forge_runtime.record import Record, Sink

__all__ = ["Visit", "Visits"]

logger = logging.getLogger(__name__)

TIMEOUT_HEADER = "x-request-timeout"

Result = TypeVar("Result")


class Visits:
    """All requests at the model, from the first byte to the last."""

    def __init__(self, limits: ServerConfig, sinks: Sequence[Sink]) -> None:
        self._limits = limits
        self._sinks = sinks
        self._bodies = BodyReader(limits)
        self._open: set[Visit] = set()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, request: Request, path: str) -> Visit:
        """Begin one, by its route's path; whoever does must `close` it."""
        visit = Visit(request, path, self._limits, self._bodies, self._close)
        self._open.add(visit)
        return visit

    def abort(self) -> None:
        """Answer 503 to all that still wait."""
        for visit in self._open:
            visit.abort()

    def _close(self, visit: Visit, record: Record) -> None:
        self._open.discard(visit)
        for sink in self._sinks:
            sink.add(record)
        fields = {
            "request_id": record.request_id,
            "path": record.path,
            "status": record.status,
            "seconds": round(record.seconds, 6),
            "items": record.items,
            "batch": record.batch_size,
            "steps": record.steps,
        }
        log.event(logger, logging.INFO, "Answered", fields)


class Visit:
    """What a client waits for."""

    def __init__(
        self,
        request: Request,
        path: str,
        limits: ServerConfig,
        bodies: BodyReader,
        closed: Callable[[Visit, Record], None],
    ) -> None:
        self.exchange = Exchange()
        self.id = str(request.scope.get(REQUEST_ID, ""))
        self._request = request
        self._path = path
        self._limits = limits
        self._bodies = bodies
        self._closed = closed
        self._time = time.time()
        self._deadline_s = limits.deadline_s
        self._deadline = 0.0
        self._gone: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wake: Callable[[], object] = _nothing
        self._aborted = False
        self._ended = False

    async def read(self) -> bytes:
        """Return the body; the deadline runs from its end."""
        self._deadline_s = self._asked_deadline()
        body = await self._bodies.read(self._request)
        self._deadline = asyncio.get_running_loop().time() + self._deadline_s
        return body

    async def wait(self, work: asyncio.Future[Result]) -> Result:
        """Return what comes of `work`, which is cancelled at the deadline and when the client leaves."""
        try:
            self.watch(work.cancel)
            return await work
        except asyncio.CancelledError:
            self.check()
            raise
        finally:
            self._wake = _nothing
            work.cancel()

    def watch(self, wake: Callable[[], object]) -> None:
        """Call `wake` when there is something for `check` to raise."""
        self._wake = wake
        if self._gone is None:
            # After the body only a disconnect comes.
            self._gone = asyncio.ensure_future(self._request.receive())
            self._gone.add_done_callback(lambda _: self._wake())
            self._timer = asyncio.get_running_loop().call_at(self._deadline, self._expire)
        if self._end() is not None:
            wake()

    def check(self) -> None:
        """Raise RequestError when nobody waits any more: the client, the deadline, the server."""
        if error := self._end():
            raise error

    def abort(self) -> None:
        """End what is waited for, as the server does."""
        self._aborted = True
        self._wake()

    def refuse(self, error: BaseException) -> RequestError:
        """Close with an error; return it as the client is to hear it."""
        refusal = self._refusal(error)
        self.close(refusal.status)
        return refusal

    def close(self, status: int) -> None:
        """Put the end on record; once is enough."""
        if self._ended:
            return
        self._ended = True
        self._wake = _nothing
        if self._gone is not None:
            self._gone.cancel()
        if self._timer is not None:
            self._timer.cancel()
        exchange = self.exchange
        record = Record(
            request_id=self.id,
            path=self._path,
            status=status,
            time=self._time,
            seconds=time.perf_counter() - exchange.started,
            steps=dict(exchange.seconds),
            items=exchange.items,
            batch_size=exchange.batch_size,
            prompt_tokens=exchange.prompt_tokens,
            generated_tokens=exchange.generated_tokens,
            first_token_seconds=exchange.first_token_s,
        )
        # When what is answered now is written: the client does not wait for the books to be kept.
        asyncio.get_running_loop().call_soon(self._closed, self, record)

    def _expire(self) -> None:
        self._deadline = 0.0  # the timer may be a nanosecond early
        self._wake()

    def _end(self) -> RequestError | None:
        if self._aborted:
            return RequestError("The server is shutting down", status=503, code="draining")
        if self._gone is not None and self._gone.done():
            return client_left()
        return _deadline(self._deadline_s) if asyncio.get_running_loop().time() >= self._deadline else None

    def _asked_deadline(self) -> float:
        text = self._request.headers.get(TIMEOUT_HEADER)
        if text is None:
            return self._limits.deadline_s
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < float("inf"):
            raise RequestError(f"Expected a number of seconds, got {text[:40]!a}", param=TIMEOUT_HEADER)
        return min(seconds, self._limits.deadline_s)

    def _refusal(self, error: BaseException) -> RequestError:
        if isinstance(error, RequestError):
            return error
        message = f"Step `{error.step}`" if isinstance(error, StepError) else "The server"
        log.event(logger, logging.ERROR, str(error) or repr(error), {"request_id": self.id}, error=error)
        text = f"{message} failed; the log has the reason under request `{self.id}`"
        return RequestError(text, status=500, code="internal_error")


def _nothing() -> None:
    pass


def _deadline(seconds: float) -> RequestError:
    return RequestError(f"No answer within {seconds:g} s", status=504, code="deadline_exceeded")
