"""A response of server-sent events, written as the model generates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send

from forge_runtime.error import RequestError
from forge_runtime.http.visit import Visit

__all__ = ["EventStream", "Events"]

Piece = tuple[int, str]


class Events(Protocol):
    """What is written, in the form of one protocol; each value is whole events."""

    def begin(self) -> bytes:
        """Open the stream."""
        ...

    def text(self, index: int, text: str) -> bytes:
        """Go on with one text."""
        ...

    def end(self, results: Any) -> bytes:
        """Close the stream."""
        ...

    def fail(self, error: RequestError) -> bytes:
        """Close the stream, which has begun, with an error."""
        ...


class EventStream:
    """An ASGI response; `begun` must be awaited before it is sent, so that a refusal can have a status."""

    def __init__(
        self,
        visit: Visit,
        events: Events,
        run: Callable[[Callable[[int, str], None]], asyncio.Future[Any]],
    ) -> None:
        self._visit = visit
        self._events = events
        self._pieces: list[Piece] = []
        self._some = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task = run(self._emit)
        self._task.add_done_callback(lambda task: self._some.set())

    async def begun(self) -> None:
        """Wait for a first text or for the end; raise what that raises."""
        try:
            self._visit.watch(self._some.set)
            await self._wait()
            if self._task.done() and not self._pieces:
                self._task.result()
        except BaseException:
            self._task.cancel()
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until the end, or until the client leaves."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await _write(send, self._events.begin())
            await self._follow(send)
            await _write(send, self._events.end(await self._task), last=True)
            self._visit.close(200)
        except BaseException as error:
            refusal = self._visit.refuse(error)
            await _write(send, self._events.fail(refusal), last=True)
            if not isinstance(error, Exception):
                raise
        finally:
            self._task.cancel()

    async def _follow(self, send: Send) -> None:
        # The first have come, perhaps all.
        self._some.set()
        done = False
        while not done:
            await self._wait()
            done = self._task.done()
            pieces, self._pieces = self._pieces, []
            if pieces:
                await _write(send, b"".join(self._events.text(index, text) for index, text in _joined(pieces)))

    async def _wait(self) -> None:
        """Wait for texts or the end, or raise what ends it before."""
        await self._some.wait()
        self._some.clear()
        if not self._task.done():
            self._visit.check()

    def _emit(self, index: int, text: str) -> None:
        """Take a text from the model's thread."""
        exchange = self._visit.exchange
        if exchange.first_token_s is None:
            exchange.first_token_s = round(time.perf_counter() - exchange.started, 6)
        self._loop.call_soon_threadsafe(self._take, (index, text))

    def _take(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self._some.set()


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Join what came for one text while the last was written: a slow reader gets fewer events."""
    joined: dict[int, str] = {}
    for index, text in pieces:
        joined[index] = joined.get(index, "") + text
    return list(joined.items())


async def _write(send: Send, body: bytes, *, last: bool = False) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": not last})
