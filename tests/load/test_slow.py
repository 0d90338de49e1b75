"""Clients that send or read a byte now and then: they are gone at their deadline, and the good ones do not notice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import pytest

from benchmarks.serving_client import Connection, get, infer, metric, post
from benchmarks.serving_process import serving
from tests.load.wait import until

pytestmark = pytest.mark.load

SLOW = 100
"""Of each kind: in the headers, in the body, and twice as many that do not read."""
DEADLINE_S = 1.5
LIMITS = {
    "header_timeout_s": DEADLINE_S,
    "body_timeout_s": DEADLINE_S,
    "write_timeout_s": DEADLINE_S,
    "keep_alive_s": 60,
    "max_connections": 8 * SLOW,
}
HEAD = b"POST /api/infer HTTP/1.1\r\nhost: x\r\nx-slow: "
BODY = b"POST /api/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
STREAM = post("/v1/completions", {"prompt": "!flood 256", "stream": True, "max_tokens": 500})
GOOD = 4


def test_slow_clients_are_gone_at_their_deadline_and_good_ones_do_not_notice() -> None:
    with serving(server=LIMITS, params={"batch_size": 8}, environ={"FAKE_CALL_MS": "5"}) as server:
        statuses, longest = asyncio.run(beside_slow_ones(server.port))
        asyncio.run(is_empty(server.port))

        assert Counter({408: 2 * SLOW}) == Counter(statuses)
        assert longest < 2
        # The connection that asks, its own files, and the backend's process.
        assert server.descriptors() < 40
        assert [] == server.errors()


async def beside_slow_ones(port: int) -> tuple[list[int], float]:
    """Return what slow senders were answered, and the longest that a good client has waited."""
    senders = asyncio.gather(*(trickle(port, start) for start in [HEAD, BODY] * SLOW))
    readers = asyncio.gather(*(ignore(port) for _ in range(2 * SLOW)))
    longest = await asyncio.gather(*(ask_until(port, lambda: senders.done() and readers.done()) for _ in range(GOOD)))
    await readers
    return await senders, max(longest)


async def trickle(port: int, start: bytes) -> int:
    """Send a byte every tenth of the deadline, until there is an answer; then the server must hang up."""
    connection = Connection(port)
    await connection.open()
    connection.write(start)
    answer = asyncio.ensure_future(connection.head(4 * DEADLINE_S))
    while not answer.done():
        connection.write(b"x")
        await asyncio.wait({answer}, timeout=DEADLINE_S / 10)
    status, _ = await answer
    await connection.rest(4 * DEADLINE_S)
    connection.close()
    return status


async def ignore(port: int) -> None:
    """Ask for a long text and read nothing of it, until the server has given up."""
    connection = Connection(port, buffer=4096)
    await connection.open()
    connection.pause()
    connection.write(STREAM)
    end = time.monotonic() + 6 * DEADLINE_S
    while not connection.is_reset() and time.monotonic() < end:
        await asyncio.sleep(DEADLINE_S / 10)
    connection.close()
    assert time.monotonic() < end, "still connected"


async def ask_until(port: int, ended: Callable[[], bool]) -> float:
    connection = Connection(port)
    longest = 0.0
    while not ended():
        started = time.perf_counter()
        reply = await connection.ask(infer("good"))
        longest = max(longest, time.perf_counter() - started)

        assert 200 == reply.status
    connection.close()
    return longest


async def is_empty(port: int) -> None:
    await until(lambda: metric(port, "forge_requests_in_flight"), 0)
    assert 200 == (await get(port, "/readyz")).status
