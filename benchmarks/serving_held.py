"""Many idle connections, a full queue and some more requests: what each of them is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving_client import Connection, Reply, infer, message, metric, until

__all__ = ["Held", "hold"]

HEALTH = message("GET", "/healthz")
METRICS = message("GET", "/metrics")
Timed = tuple[Reply, float]
"""An answer, and the seconds that it took."""


@dataclass(frozen=True, slots=True)
class Held:
    """What was answered."""

    prompts: Sequence[str]
    """All that were accepted, each another."""
    replies: Sequence[Reply]
    spare: Sequence[bytes]
    """What came on those connections beyond the answer."""
    kept: Sequence[Reply]
    """What those that were idle all the time are answered in the end."""
    refused: Sequence[Timed]
    """When the queue was full."""
    healthy: Sequence[Timed]
    measured: Sequence[Timed]


async def hold(port: int, gate: Path, *, idle: int, queue: int, more: int, probes: int) -> Held:
    """Fill the queue of a server whose model waits for `gate`, ask for more, and let it go on."""
    silent = [Connection(port) for _ in range(idle)]
    await asyncio.gather(*(each.ask(HEALTH) for each in silent))
    prompts = ["!wait", *(f"number {number}" for number in range(queue))]
    connections = [Connection(port) for _ in prompts]
    asking = []
    for connection, prompt in zip(connections, prompts, strict=True):
        asking.append(asyncio.ensure_future(connection.ask(infer(prompt), 120)))
        if len(asking) == 1:
            await until(lambda: metric(port, "forge_batch_items_count"), 1)
    await until(lambda: metric(port, "forge_queue_depth"), queue)
    refused = [await _timed(port, infer("one more")) for _ in range(more)]
    healthy = [await _timed(port, HEALTH) for _ in range(probes)]
    measured = [await _timed(port, METRICS) for _ in range(probes)]
    gate.touch()
    replies = await asyncio.gather(*asking)
    kept = await asyncio.gather(*(each.ask(HEALTH) for each in silent))
    spare = [await one.spare() for one in connections]
    for each in [*silent, *connections]:
        each.close()
    return Held(prompts, replies, spare, kept, refused, healthy, measured)


async def _timed(port: int, data: bytes) -> Timed:
    """Ask on a new connection; to open it is part of it."""
    connection = Connection(port)
    started = time.perf_counter()
    try:
        reply = await connection.ask(data)
        return reply, time.perf_counter() - started
    finally:
        connection.close()
