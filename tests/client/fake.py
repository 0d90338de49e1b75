"""A server that answers as a test says: late, in pieces, badly, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from forge_client.address import Address
from forge_client.connection import Timeouts
from forge_client.server import Server

End = Literal["whole", "hang up", "reset", "hold"]
"""After the pieces: nothing more to do; close; reset the connection; say nothing until the client leaves."""


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> object:
        """Its body."""
        value: object = json.loads(self.body)
        return value


@dataclass(frozen=True)
class Reply:
    """What goes out: each piece as it is, after its seconds."""

    pieces: Sequence[tuple[float, bytes]] = ()
    end: End = "whole"


Script = Callable[[Asked], Reply]


@dataclass
class FakeServer:
    """What came, and how much of it at a time."""

    script: Script
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    running: int = 0
    most: int = 0
    """Requests that were in flight at once, at most."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def server(self) -> Server:
        """The same for the client."""
        return Server(Address.parse(self.url))

    @property
    def posted(self) -> list[Asked]:
        """Requests with a body."""
        return [each for each in self.asked if each.method == "POST"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client until one of the two has enough."""
        self.connections += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._answer(await _read(reader), reader, writer):
                    pass
        finally:
            writer.close()

    async def _answer(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self.asked.append(asked)
        self.running += asked.method == "POST"
        self.most = max(self.most, self.running)
        try:
            return await _write(self.script(asked), reader, writer)
        finally:
            self.running -= asked.method == "POST"


@contextlib.contextmanager
def serving(script: Script) -> Iterator[FakeServer]:
    """Serve in a thread of its own."""
    fake = FakeServer(script)
    loop = asyncio.new_event_loop()
    started = threading.Event()
    stop = asyncio.Event()

    async def main() -> None:
        server = await asyncio.start_server(fake.serve, "127.0.0.1", 0, backlog=512)
        fake.port = server.sockets[0].getsockname()[1]
        started.set()
        await stop.wait()
        server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    started.wait()
    try:
        yield fake
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def reply(
    body: object = b"",
    status: int = 200,
    *,
    wait: float = 0.0,
    kind: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """A whole answer, with its length."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"content-type": kind, "content-length": str(len(data)), **(headers or {})}
    return Reply(((wait, head(status, lines) + data),))


def head(status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """The beginning of an answer."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return f"HTTP/1.1 {status} So\r\n{lines}\r\n".encode()


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body; the empty one ends it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


CHUNKED = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}


def stream(events: Sequence[object], *, gap: float = 0.0, end: End = "whole") -> Reply:
    """Server-sent events, one every `gap` seconds; `[DONE]` is text."""
    pieces: list[tuple[float, bytes]] = [(0.0, head(200, CHUNKED))]
    for event in events:
        data = event if isinstance(event, str) else json.dumps(event)
        pieces.append((gap, chunk(f"data: {data}\n\n".encode())))
    if end == "whole":
        pieces.append((0.0, chunk(b"")))
    return Reply(tuple(pieces), end)


def token(text: str, *, index: int = 0, finish: str | None = None) -> dict[str, object]:
    """An event of a completion."""
    return {"choices": [{"index": index, "text": text, "finish_reason": finish}]}


def echo(asked: Asked) -> Reply:
    """A server like forge's, without a model."""
    if asked.path == "/readyz":
        return reply({"status": "ready", "model": "fake"})
    if asked.path == "/api/infer" and asked.method == "POST":
        prompts = _prompts(asked)
        text = {"text": "x", "prompt_tokens": 1, "generated_tokens": 2}
        return reply({each: text if prompts.count(each) == 1 else [text] * prompts.count(each) for each in prompts})
    return reply({"error": {"message": "Not found"}}, 405 if asked.path == "/api/infer" else 404)


def late(seconds: float) -> Script:
    """The same, each answer after a while."""

    def script(asked: Asked) -> Reply:
        found = echo(asked)
        return Reply(((seconds, found.pieces[0][1]),)) if asked.method == "POST" else found

    return script


QUICK = Timeouts(connect=2.0, first_byte=2.0, total=5.0)


def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _prompts(asked: Asked) -> list[str]:
    table = json.loads(asked.body)
    return list(table["prompts"])


async def _read(reader: asyncio.StreamReader) -> Asked:
    text = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = text.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, path, headers, body)


async def _write(reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Send it; whether the connection goes on."""
    for wait, data in reply.pieces:
        if wait:
            await asyncio.sleep(wait)
        writer.write(data)
        await writer.drain()
    if reply.end == "hold":
        await reader.read()
    if reply.end == "reset":
        # A socket that lingers for no time is reset when it is closed.
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    return reply.end == "whole"
