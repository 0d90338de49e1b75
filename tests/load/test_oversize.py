"""Bodies that are too large, one by one and together, and packed ones: refused before they fill the memory."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Iterator

import pytest

from benchmarks.serving_client import Connection, Reply, infer, message, metric, until
from benchmarks.serving_process import Server, serving

pytestmark = pytest.mark.load

LIMIT = 2 * 2**20
TOGETHER = 16
"""Times the limit: what all bodies may hold that are read at a time."""
AT_ONCE = 64
PIECE = b"x" * 2**16
ENDLESS = 64 * LIMIT


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(server={"body_limit": LIMIT, "body_timeout_s": 2}) as server:
        yield server


def is_served(server: Server) -> bool:
    async def ask() -> Reply:
        return await Connection(server.port).ask(infer("good"))

    return asyncio.run(ask()).status == 200


def test_a_declared_body_is_refused_before_it_comes(server: Server) -> None:
    head = b"POST /api/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % ENDLESS

    reply = asyncio.run(Connection(server.port).ask(head, 5))

    assert (413, "body_too_large") == (reply.status, reply.json["error"]["code"])
    assert is_served(server)


def test_an_endless_body_is_refused_before_it_fills_the_memory(server: Server) -> None:
    before = server.forget_peak()

    reply, sent = asyncio.run(flood(server.port))

    assert (413, "body_too_large") == (reply.status, reply.json["error"]["code"])
    assert sent < ENDLESS
    assert server.peak() - before < 4 * LIMIT
    assert is_served(server)


async def flood(port: int) -> tuple[Reply, int]:
    """Send chunk after chunk until there is an answer."""
    connection = Connection(port)
    await connection.open()
    connection.write(b"POST /api/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    answer = asyncio.ensure_future(connection.read())
    sent = 0
    while not answer.done() and sent < ENDLESS:
        connection.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
        sent += len(PIECE)
        await connection.drain()
        await asyncio.sleep(0)
    reply = await answer
    connection.close()
    return reply, sent


def test_many_large_bodies_together_stay_within_a_bound(server: Server) -> None:
    before = server.forget_peak()

    statuses = asyncio.run(crowd(server.port))

    # All of them would be four times the bound, and more: a buffer grows by an eighth at a time, and is moved.
    assert server.peak() - before < 3 * TOGETHER * LIMIT
    assert {408, 429} == set(statuses)
    assert statuses[429] >= AT_ONCE - TOGETHER - 2
    assert is_served(server)


async def crowd(port: int) -> Counter[int]:
    """Send many bodies that are almost too large, and not their last byte."""
    size = LIMIT - 1024
    head = b"POST /api/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size

    async def send() -> int:
        connection = Connection(port)
        try:
            return (await connection.ask(head + b"x" * (size - 1), 20)).status
        finally:
            connection.close()

    return Counter(await asyncio.gather(*(send() for _ in range(AT_ONCE))))


@pytest.mark.parametrize("coding", ["content-encoding", "transfer-encoding"])
def test_a_packed_body_is_refused(server: Server, coding: str) -> None:
    before = server.forget_peak()
    packed = gzip.compress(json.dumps({"prompts": "a" * 16 * LIMIT}).encode(), 1)
    data = message("POST", "/api/infer", packed, {coding: "gzip"})

    reply = asyncio.run(Connection(server.port).ask(data))

    assert 400 <= reply.status < 500
    assert server.peak() - before < LIMIT
    assert is_served(server)


def test_a_client_that_hangs_up_in_the_middle_of_a_body_leaves_nothing(server: Server) -> None:
    async def cut() -> None:
        connection = Connection(server.port)
        await connection.open()
        connection.write(b"POST /api/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
        connection.write_eof()
        await connection.rest(5)
        await until(lambda: metric(server.port, "forge_requests_in_flight"), 0)
        connection.close()

    asyncio.run(cut())

    assert is_served(server)
    assert [] == server.errors()
