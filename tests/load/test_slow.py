"""Clients that send or read a byte now and then: they are gone at their deadline, and the good ones do not notice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from benchmarks.serving_client import Connection, infer, metric, until
from benchmarks.serving_process import serving
from benchmarks.serving_slow import BODY, HEADERS, ignore, trickle

pytestmark = pytest.mark.load

SLOW = 100
"""In their headers, as many in their body, and twice as many that do not read."""
DEADLINE_S = 1.5
TIMEOUT_S = 6 * DEADLINE_S
LIMITS = {"header_timeout_s": DEADLINE_S, "body_timeout_s": DEADLINE_S, "write_timeout_s": DEADLINE_S}
GOOD = 4


def test_slow_clients_are_gone_at_their_deadline_and_good_ones_do_not_notice() -> None:
    with serving(server=LIMITS, params={"batch_size": 8}, environ={"FAKE_CALL_MS": "5"}) as server:
        before = server.descriptors()

        statuses, longest = asyncio.run(beside_slow_ones(server.port))
        asyncio.run(until(lambda: metric(server.port, "forge_requests_in_flight"), 0))

        assert Counter({408: 2 * SLOW}) == Counter(statuses)
        assert longest < 2
        assert server.descriptors() - before < 8
        assert [] == server.errors()


async def beside_slow_ones(port: int) -> tuple[Sequence[int], float]:
    """Return what slow senders were answered, and the longest that a good client has waited."""
    senders = asyncio.gather(
        *(trickle(port, start, pause_s=DEADLINE_S / 10, timeout=TIMEOUT_S) for start in [HEADERS, BODY] * SLOW)
    )
    readers = asyncio.gather(*(ignore(port, timeout=TIMEOUT_S) for _ in range(2 * SLOW)))
    longest = await asyncio.gather(*(ask_until(port, lambda: senders.done() and readers.done()) for _ in range(GOOD)))
    await readers
    return [status for status, _ in await senders], max(longest)


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
