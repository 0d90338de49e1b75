"""A thousand idle connections and a full queue: what is accepted is answered once, the rest refused at once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from benchmarks.serving_client import Connection, Reply, get, infer, message, metric
from benchmarks.serving_process import serving
from tests.load.wait import until

pytestmark = pytest.mark.load

IDLE = 1000
QUEUE = 256
MORE = 20
PROBES = 50
ANSWERED = 'forge_requests_total{path="/api/infer",status="200"}'
REFUSED = 'forge_requests_total{path="/api/infer",status="429"}'


def test_what_is_accepted_is_answered_once_and_the_rest_refused(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    environ = {"FAKE_KIND": "serial", "FAKE_CALL_MS": "1", "FAKE_GATE": str(gate)}
    with serving(environ=environ, params={"batch_size": 1}) as server:
        asyncio.run(hold(server.port, gate))


async def hold(port: int, gate: Path) -> None:
    idle = [Connection(port) for _ in range(IDLE)]
    health = message("GET", "/healthz")
    await asyncio.gather(*(each.ask(health) for each in idle))
    prompts = ["!wait", *(f"number {number}" for number in range(QUEUE))]
    connections = [Connection(port) for _ in prompts]
    first = asyncio.ensure_future(connections[0].ask(infer(prompts[0])))
    await until(lambda: metric(port, "forge_batch_items_count"), 1)
    rest = [asyncio.ensure_future(one.ask(infer(text))) for one, text in zip(connections[1:], prompts[1:], strict=True)]
    await until(lambda: metric(port, "forge_queue_depth"), QUEUE)

    refused = [await timed(port, infer("one more")) for _ in range(MORE)]
    healthy = [await timed(port, health) for _ in range(PROBES)]
    measured = [await timed(port, message("GET", "/metrics")) for _ in range(PROBES)]
    gate.touch()
    replies = await asyncio.gather(first, *rest)
    kept = await asyncio.gather(*(each.ask(health) for each in idle))

    assert [(429, True)] * MORE == [(reply.status, "retry-after" in reply.headers) for reply, _ in refused]
    assert [200] * 2 * PROBES == [reply.status for reply, _ in [*healthy, *measured]]
    assert [{text: text.upper()} for text in prompts] == [reply.json for reply in replies]
    assert [200] * IDLE == [reply.status for reply in kept]
    assert [b""] * len(connections) == [await one.spare() for one in connections]
    assert (len(prompts), MORE) == (await metric(port, ANSWERED), await metric(port, REFUSED))
    # Ten times the goal: other programs run here, too.
    assert max(seconds for _, seconds in [*refused, *healthy]) < 0.5
    assert max(seconds for _, seconds in measured) < 2
    for each in [*idle, *connections]:
        each.close()


async def timed(port: int, data: bytes) -> tuple[Reply, float]:
    connection = Connection(port)
    await connection.open()
    started = time.perf_counter()
    try:
        reply = await connection.ask(data)
        return reply, time.perf_counter() - started
    finally:
        connection.close()


def test_an_answer_is_not_held_back_for_the_clients_confirmation() -> None:
    """Headers and body go out as two writes: without TCP_NODELAY each answer would take 40 ms."""

    async def ask(port: int) -> float:
        connection = Connection(port)
        started = time.perf_counter()
        for _ in range(100):
            await connection.ask(message("GET", "/healthz"))
        connection.close()
        return time.perf_counter() - started

    with serving() as server:
        assert asyncio.run(ask(server.port)) < 2
        assert 200 == asyncio.run(get(server.port, "/healthz")).status
