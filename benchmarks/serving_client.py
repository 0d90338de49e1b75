"""A client that costs little: HTTP/1.1 over asyncio's streams, one request at a time on a connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Connection", "Lost", "Reply", "get", "infer", "message", "metric", "post", "until"]

LIMIT = 2**20
TIMEOUT_S = 30.0
ESTABLISHED = 1
"""State of a TCP connection (linux/tcp.h)."""


class Lost(Exception):
    """The connection ended before an answer did; `begun` says whether one had begun."""

    def __init__(self, text: str, *, begun: bool) -> None:
        self.begun = begun
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Reply:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class Connection:
    """Opened by the first request, and kept while the server keeps it."""

    def __init__(self, port: int, *, buffer: int = 0) -> None:
        self._port = port
        self._buffer = buffer
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent on it."""
        return self._reader is not None and not self._reader.at_eof()

    async def open(self) -> None:
        """Connect."""
        self.close()
        sock = socket.socket()
        sock.setblocking(False)
        if self._buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._port))
        except OSError as error:
            sock.close()
            raise Lost(f"Not connected: {error}", begun=False) from error
        # A limit in place of the buffer that is asked for, or the reader would take more than the kernel.
        self._reader, self._writer = await asyncio.open_connection(sock=sock, limit=self._buffer or LIMIT)

    def close(self) -> None:
        """Hang up, without a word."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def ask(self, data: bytes, timeout: float = TIMEOUT_S) -> Reply:
        """Send what `message` made and read the answer; raise Lost, or TimeoutError."""
        if not self.is_open:
            await self.open()
        self.write(data)
        return await self.read(timeout)

    def write(self, data: bytes) -> None:
        """Send, and do not wait."""
        assert self._writer is not None
        self._writer.write(data)

    def pause(self) -> None:
        """Read nothing any more."""
        assert self._writer is not None
        transport = self._writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()

    def is_reset(self) -> bool:
        """Whether the server has given the connection up, asked of the kernel: nothing is read for it."""
        assert self._writer is not None
        sock = self._writer.get_extra_info("socket")
        state: int = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state != ESTABLISHED

    async def drain(self) -> None:
        """Wait until there is room to send more, or nobody who takes it."""
        assert self._writer is not None
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def write_eof(self) -> None:
        """Send nothing more."""
        assert self._writer is not None
        self._writer.write_eof()

    async def read(self, timeout: float = TIMEOUT_S) -> Reply:
        """Read one whole answer; close where the server says that it will."""
        try:
            reply = await asyncio.wait_for(self._read(), timeout)
        except BaseException:
            self.close()
            raise
        if reply.headers.get("connection", "").lower() == "close":
            self.close()
        return reply

    async def head(self, timeout: float = TIMEOUT_S) -> tuple[int, Mapping[str, str]]:
        """Read the beginning of an answer: status and headers."""
        return await asyncio.wait_for(self._head(), timeout)

    async def rest(self, timeout: float = TIMEOUT_S) -> bytes:
        """Read until the server hangs up, which it must."""
        assert self._reader is not None
        try:
            return await asyncio.wait_for(self._reader.read(), timeout)
        except ConnectionError:
            return b""

    async def some(self, count: int, timeout: float = TIMEOUT_S) -> bytes:
        """Read what has come, `count` bytes at most; none when the server has hung up."""
        assert self._reader is not None
        try:
            return await asyncio.wait_for(self._reader.read(count), timeout)
        except ConnectionError:
            return b""

    async def spare(self) -> bytes:
        """Return what has come that no request asked for."""
        if not self.is_open:
            return b""
        try:
            return await self.some(LIMIT, 0.001)
        except TimeoutError:
            return b""

    async def _read(self) -> Reply:
        assert self._reader is not None
        begun = False
        try:
            status, headers = await self._head()
            begun = True
            return Reply(status, headers, await self._body(headers))
        except asyncio.IncompleteReadError as error:
            raise Lost(f"Ended after {error.partial[:40]!r}", begun=begun or bool(error.partial)) from error
        except OSError as error:
            raise Lost(str(error), begun=begun) from error

    async def _head(self) -> tuple[int, dict[str, str]]:
        assert self._reader is not None
        head = await self._reader.readuntil(b"\r\n\r\n")
        line, *fields = head[:-4].decode("latin-1").split("\r\n")
        headers = {}
        for field in fields:
            name, _, value = field.partition(":")
            headers[name.lower()] = value.strip()
        return int(line.split(" ", 2)[1]), headers

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        assert self._reader is not None
        if headers.get("transfer-encoding", "").lower() != "chunked":
            length = headers.get("content-length")
            return await (self._reader.read() if length is None else self._reader.readexactly(int(length)))
        parts = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            parts.append((await self._reader.readexactly(size + 2))[:-2])
        await self._reader.readuntil(b"\r\n")
        return b"".join(parts)


def message(method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
    """Put a request together; headers that are given come after its own."""
    fields = {"host": "127.0.0.1"}
    if body is not None:
        fields |= {"content-type": "application/json", "content-length": str(len(body))}
    fields |= headers or {}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + (body or b"")


def post(path: str, value: object, headers: Mapping[str, str] | None = None) -> bytes:
    """Ask with a JSON body."""
    return message("POST", path, json.dumps(value).encode(), headers)


def infer(*prompts: str) -> bytes:
    """Ask for texts."""
    return post("/api/infer", {"prompts": list(prompts)})


async def get(port: int, path: str) -> Reply:
    """Ask once, on a connection of its own."""
    connection = Connection(port)
    try:
        return await connection.ask(message("GET", path))
    finally:
        connection.close()


async def metric(port: int, name: str) -> float:
    """Read a metric; the sum over its labels."""
    lines = (await get(port, "/metrics")).body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


async def until(read: Callable[[], Awaitable[float]], wanted: float, timeout: float = 10) -> float:
    """Wait until a value is read, or raise TimeoutError; return how many seconds that took."""
    started = time.perf_counter()
    while (found := await read()) != wanted:
        waited = time.perf_counter() - started
        if waited >= timeout:
            raise TimeoutError(f"Still {found:g} and not {wanted:g} after {timeout:g} s")
        await asyncio.sleep(0.01)
    return time.perf_counter() - started
