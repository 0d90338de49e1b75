"""One keep-alive HTTP/1.1 connection: h11 over an asyncio stream, every wait bounded."""

from __future__ import annotations

import asyncio
import email.utils
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import h11

from forge_client.address import Address
from forge_client.error import RequestFailed

__all__ = ["Connection", "Message", "Response", "Sink", "Timeouts"]

Sink = Callable[[bytes, float], None]
"""Takes a piece of the body as it comes, with the loop's time."""

READ = 1 << 16
BODY_LIMIT = 256 << 20
"""Bytes of an answer; a server that never stops is an error, not a full memory."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait at most."""

    connect: float = 5.0
    first_byte: float = 120.0
    """From sending to the first byte of the answer."""
    total: float = 300.0
    """From the wish to send to the last byte of the answer."""


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A request, made once and sent as often as one likes."""

    head: h11.Request
    body: bytes

    @classmethod
    def make(
        cls,
        address: Address,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        content_type: str = "application/json",
        headers: Sequence[tuple[str, str]] = (),
    ) -> Message:
        """Put a request together; headers that are given beat its own."""
        own = {"Host": address.authority, "User-Agent": "forge-client", "Accept": "*/*"}
        if method != "GET":
            own |= {"Content-Length": str(len(body)), "Content-Type": content_type}
        given = {name.lower() for name, _ in headers}
        pairs = [pair for pair in own.items() if pair[0].lower() not in given] + list(headers)
        encoded = [(name.encode("ascii"), value.encode("latin-1")) for name, value in pairs]
        target = (address.prefix + path).encode("ascii")
        return cls(h11.Request(method=method.encode(), target=target, headers=encoded), body)


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    """Without what went to a sink."""

    def header(self, name: str) -> str:
        """Take a header's value; empty where there is none."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key == wanted), "")

    def retry_after(self) -> float | None:
        """Tell how many seconds the server asks to wait, if it does."""
        text = self.header("retry-after").strip()
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
        except (TypeError, ValueError, OverflowError):
            return None


class Connection:
    """Sends one request after another; connects when it must."""

    def __init__(self, address: Address, timeouts: Timeouts, tls: ssl.SSLContext | None = None) -> None:
        self._address = address
        self._timeouts = timeouts
        self._tls = tls or (ssl.create_default_context() if address.tls else None)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._state = h11.Connection(our_role=h11.CLIENT)
        self._timer: asyncio.TimerHandle | None = None
        self._expired = ""

    @property
    def is_open(self) -> bool:
        """Say whether it is connected, as far as can be known; a server may hang up while nothing is asked of it."""
        if self._writer is None or self._reader is None:
            return False
        return not self._reader.at_eof() and not self._writer.transport.is_closing()

    async def open(self) -> None:
        """Connect, unless it is connected; RequestFailed when that does not work."""
        if self.is_open:
            return
        self.close()
        where = f"{self._address.host}:{self._address.port}"
        try:
            opening = asyncio.open_connection(self._address.host, self._address.port, ssl=self._tls)
            limit = min(self._timeouts.connect, self._timeouts.total)
            self._reader, self._writer = await asyncio.wait_for(opening, limit)
        except asyncio.TimeoutError:
            raise RequestFailed("connect_timeout", f"No connection to {where} within {limit:g} s") from None
        except ConnectionRefusedError as error:
            raise RequestFailed("refused", f"Nothing listens on {where}", unanswered=True) from error
        except ConnectionResetError as error:
            raise RequestFailed("reset", f"{where} hangs up at once", unanswered=True) from error
        except ssl.SSLError as error:
            raise RequestFailed("tls", f"No TLS with {where}: {error.reason or error}") from error
        except socket.gaierror as error:
            raise RequestFailed("unresolved", f"Unknown host `{self._address.host}`") from error
        except OSError as error:
            raise RequestFailed("connect", f"No connection to {where}: {error.strerror or error}") from error
        self._state = h11.Connection(our_role=h11.CLIENT)

    async def exchange(self, message: Message, sink: Sink | None = None) -> Response:
        """Send a request and read its answer, whatever its status; RequestFailed when none comes whole.

        The body of an answer with status 200 that is a stream of events goes to `sink`.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeouts.total
        await self.open()
        self._expired = ""
        done = False
        try:
            self._arm(min(self._timeouts.first_byte, end - loop.time()), "first_byte_timeout")
            self._write(message)
            response = await self._read(end, sink)
            done = True
            return response
        except h11.RemoteProtocolError as error:
            raise RequestFailed("protocol", f"The answer is not HTTP/1.1: {error}") from error
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if done and self._state.our_state is h11.DONE and self._state.their_state is h11.DONE:
                self._state.start_next_cycle()
            else:
                self.close()

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    def _arm(self, seconds: float, kind: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._expire, kind)

    def _expire(self, kind: str) -> None:
        self._expired = kind
        if self._writer is not None:
            self._writer.transport.abort()

    def _write(self, message: Message) -> None:
        assert self._writer is not None
        wire = self._state.send(message.head) or b""
        if message.body:
            wire += self._state.send(h11.Data(message.body)) or b""
        wire += self._state.send(h11.EndOfMessage()) or b""
        # Without `drain`: the body is in memory anyway, and a server may refuse it before it has read it all.
        self._writer.write(wire)

    async def _read(self, end: float, sink: Sink | None) -> Response:
        loop = asyncio.get_running_loop()
        head: h11.Response | None = None
        chunks: list[bytes] = []
        size, now, answered, ended = 0, 0.0, False, False
        while True:
            try:
                event = self._state.next_event()
            except h11.RemoteProtocolError as error:
                if ended:
                    raise RequestFailed("truncated", f"The answer ends before it is whole: {error}") from error
                raise
            if event is h11.NEED_DATA:
                data = await self._receive(answered)
                now = loop.time()
                if data and not answered:
                    answered = True
                    self._arm(end - now, "timeout")
                ended = not data
                self._state.receive_data(data)
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > BODY_LIMIT:
                    raise RequestFailed("too_large", f"The answer has more than {BODY_LIMIT >> 20} MiB")
                if sink is not None and head is not None and head.status_code == 200 and _is_stream(head):
                    sink(bytes(event.data), now)
                else:
                    chunks.append(bytes(event.data))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return Response(head.status_code, list(head.headers), b"".join(chunks))
            elif not isinstance(event, h11.InformationalResponse):
                raise RequestFailed("protocol", "The server ends the connection in the middle of an answer")

    async def _receive(self, answered: bool) -> bytes:
        """Take what comes; nothing when the server has hung up in the midst of its answer."""
        assert self._reader is not None
        fault = "The server hung up without an answer"
        try:
            data = await self._reader.read(READ)
        except OSError as error:
            data, fault = b"", f"{fault}: {error.strerror or error}"
        if self._expired:
            raise RequestFailed(self._expired, self._lateness())
        if not data and not answered:
            raise RequestFailed("reset", fault, unanswered=True)
        return data

    def _lateness(self) -> str:
        if self._expired == "timeout":
            return f"The answer was not whole within {self._timeouts.total:g} s"
        return f"No byte of an answer within {min(self._timeouts.first_byte, self._timeouts.total):g} s"


def _is_stream(head: h11.Response) -> bool:
    kind = next((value for name, value in head.headers if name == b"content-type"), b"")
    return kind.lower().startswith(b"text/event-stream")
