"""Connections that cannot be held: deadlines and limits that uvicorn's do not have.

A connection is always in one phase, and each but one has a deadline: headers are to come, nothing comes, a
body comes that nobody reads any more, we have hung up. The one without is the application's: until it has
answered, it watches the time itself. Beside that, what is written must go out.

What HTTP makes invalid is answered here, in JSON like everything else, and never reaches the application.
To close a socket on which bytes still arrive resets the connection, and the client may lose what it was
sent: so only our side is closed, and the rest thrown away for a while (RFC 9112, 9.6).
"""

from __future__ import annotations

import asyncio
import enum
import errno
import logging
import uuid
from collections.abc import Callable
from typing import Any, ClassVar

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

from forge_runtime import log
from forge_runtime.error import RequestError
from forge_runtime.http.limit import MAX_DESCRIPTORS, ConnectionLimits, raise_descriptor_limit
from forge_runtime.http.outlet import Outlet
from forge_runtime.http.parser import Parser
from forge_runtime.http.refusal import error_response

__all__ = ["ConnectionLimits", "Connections", "raise_descriptor_limit"]

logger = logging.getLogger(__name__)

RESERVE = 256
"""Descriptors that are not for connections: files, the backend's process, Redis, what is being refused."""
SPARE = 64
"""Connections over the limit that are told so; one more is just closed."""
LINGER_S = 1.0
"""For bytes that crossed our end of the connection."""
DRAIN_S = 1.0
"""For a client to finish what it has begun to send, once the server is told to stop."""
GLANCE_S = 0.05
"""For a request that has arrived unread when the server ends."""
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Connections:
    """What the connections of one server share: limits, their number, and whether it is about to end."""

    def __init__(
        self,
        limits: ConnectionLimits | None = None,
        *,
        descriptors: int = MAX_DESCRIPTORS,
        on_refused: Callable[[int], None] = lambda status: None,
    ) -> None:
        self.limits = limits or ConnectionLimits()
        self.room = min(self.limits.max_connections, max(descriptors - RESERVE, descriptors // 2))
        """Connections that are served at a time."""
        self.on_refused = on_refused
        self.open = 0
        self.refused = 0
        """Connections over the limit that have not ended yet."""
        self.draining = False
        """Whether every response is the last on its connection."""
        self.idle: dict[_Connection, None] = {}
        self._last_complaint = float("-inf")

    def protocol(self) -> type[H11Protocol]:
        """Return what uvicorn's `http` takes."""
        ours = self

        class Connection(_Connection):
            shared = ours

        return Connection

    def drain(self) -> None:
        """Let each response from now on say `Connection: close`."""
        self.draining = True

    def admit(self) -> bool:
        """Count one connection more; where all are taken, the one that is idle the longest makes room."""
        if self.open >= self.room:
            oldest = next(iter(self.idle), None)
            if oldest is None:
                self.refused += 1
                return False
            oldest.hang_up()
        self.open += 1
        return True

    def loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what asyncio could not raise; a loop's exception handler.

        Where descriptors run out, asyncio tries to accept as often as the backlog is long, each second, reports
        it each time, and tries again for each, the last time after the server has ended.
        """
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            if loop.time() - self._last_complaint >= 1:
                self._last_complaint = loop.time()
                log.event(logger, logging.ERROR, f"Cannot accept connections: {error.strerror}", {"open": self.open})
        elif "._start_serving(" not in context["message"]:
            loop.default_exception_handler(context)


class _Phase(enum.Enum):
    """What a connection waits for."""

    OURS = "ours"  # the application's answer, or a body that it reads; or the end of what is written
    HEADERS = "headers"
    IDLE = "idle"  # kept for the next request
    DISCARD = "discard"  # the rest of a body whose request is answered
    LINGER = "linger"  # the client's end, after ours


class _Connection(H11Protocol):
    shared: ClassVar[Connections]
    conn: Parser

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = self.shared.limits
        self.conn = Parser(
            self._limits,
            refuse=self._refuse,
            is_last=lambda: self.shared.draining,
            on_head=lambda: self.loop.call_soon(self._write_head),
        )
        self._phase = _Phase.OURS
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        shared = self.shared
        self._outlet = Outlet(transport, self.loop, shared.limits, on_close=self._close)
        super().connection_made(self._outlet)
        self._admitted = shared.admit()
        if self._admitted:
            self._watch()
        elif shared.refused > SPARE:
            self._outlet.abort()
        else:
            message = f"All {shared.room} connections are taken"
            headers = (("retry-after", "1"),)
            self._refuse(RequestError(message, status=503, code="too_many_connections", headers=headers))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._admitted:
            self.shared.open -= 1
        else:
            self.shared.refused -= 1
        self._enter(_Phase.OURS)
        self._outlet.stop()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        if self._outlet.is_closing():
            return
        super().data_received(data)
        self._watch()

    def eof_received(self) -> None:
        # asyncio closes now, but not before its buffer is empty; the application is to know at once.
        self._disconnect()
        self._enter(_Phase.OURS)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()
        self._watch()

    def shutdown(self) -> None:
        self.shared.drain()
        if self._phase is _Phase.OURS:
            if self.cycle is not None:
                self.cycle.keep_alive = False
            return
        silent = self.conn.their_state is h11.IDLE and not self.conn.buffered
        self._enter(self._phase, GLANCE_S if silent and not self._outlet.half_closed else DRAIN_S)

    def hang_up(self) -> None:
        """Close without waiting for the client's end."""
        self._enter(_Phase.OURS)
        self._outlet.hang_up()

    def _should_upgrade(self) -> bool:
        # To ignore it is right (RFC 9110, 7.8). uvicorn would log two warnings for each.
        return False

    def _watch(self) -> None:
        """Set the deadline of what the client has to do; one that it has already goes on."""
        phase = self._next_phase()
        if phase is not self._phase:
            self._enter(phase)

    def _next_phase(self) -> _Phase:
        if self._outlet.half_closed:
            return _Phase.LINGER
        if self._outlet.is_closing():
            return _Phase.OURS
        if self.conn.their_state is h11.IDLE:
            return _Phase.HEADERS if self.cycle is None or self.conn.buffered else _Phase.IDLE
        if self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete:
            return _Phase.DISCARD
        return _Phase.OURS

    def _enter(self, phase: _Phase, seconds: float | None = None) -> None:
        limits, shared = self._limits, self.shared
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        shared.idle.pop(self, None)
        self._phase = phase
        if phase is _Phase.OURS:
            return
        if phase is _Phase.IDLE:
            shared.idle[self] = None
        if seconds is None:
            seconds = {
                _Phase.HEADERS: limits.header_timeout_s,
                _Phase.IDLE: limits.keep_alive_s,
                _Phase.DISCARD: limits.discard_timeout_s,
                _Phase.LINGER: min(LINGER_S, limits.discard_timeout_s),
            }[phase]
        if shared.draining:
            seconds = min(seconds, DRAIN_S)
        self._deadline = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        self._deadline = None
        if self._phase is _Phase.HEADERS and self.conn.buffered:
            message = f"The headers did not come within {self._limits.header_timeout_s:g} s"
            self._refuse(RequestError(message, status=408, code="header_timeout"))
        elif self._phase in (_Phase.HEADERS, _Phase.IDLE):
            self._close()
        else:
            self.hang_up()

    def _refuse(self, error: RequestError) -> None:
        self._disconnect()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # else a response is under way, or was sent
            self.shared.on_refused(error.status)
            self._outlet.write(_encode(error, self.server_state.default_headers))
        self._close()

    def _write_head(self) -> None:
        if head := self.conn.take_head():
            self._outlet.write(head)

    def _disconnect(self) -> None:
        """Tell the application that nothing it sends from now on is read."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.flow.resume_writing()

    def _close(self) -> None:
        """Hang up so that the client can read what it was sent."""
        if self._outlet.is_closing():
            return
        state = self.conn.their_state
        if state not in (h11.IDLE, h11.SEND_BODY, h11.ERROR) and not self.conn.buffered:
            self.hang_up()
            return
        self._outlet.half_close()
        self._enter(_Phase.LINGER, self._limits.discard_timeout_s if state is h11.SEND_BODY else None)


def _encode(error: RequestError, headers: list[tuple[bytes, bytes]]) -> bytes:
    response = error_response(error)
    ours = [(b"x-request-id", uuid.uuid4().hex.encode()), (b"connection", b"close")]
    fields = b"".join(b"%s: %s\r\n" % field for field in [*headers, *response.raw_headers, *ours])
    line = b"HTTP/1.1 %d %s\r\n" % (error.status, STATUS_PHRASES[error.status])
    return line + fields + b"\r\n" + bytes(response.body)
