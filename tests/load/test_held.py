"""A thousand idle connections and a full queue: what is accepted is answered once, the rest refused at once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from benchmarks.serving_client import Connection, message, metric
from benchmarks.serving_held import Held, hold
from benchmarks.serving_process import serving

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
        held = asyncio.run(hold(server.port, gate, idle=IDLE, queue=QUEUE, more=MORE, probes=PROBES))

        check(held)
        assert QUEUE + 1 == asyncio.run(metric(server.port, ANSWERED))
        assert MORE == asyncio.run(metric(server.port, REFUSED))


def check(held: Held) -> None:
    assert [(429, True)] * MORE == [(reply.status, "retry-after" in reply.headers) for reply, _ in held.refused]
    assert [200] * 2 * PROBES == [reply.status for reply, _ in [*held.healthy, *held.measured]]
    assert [{text: text.upper()} for text in held.prompts] == [reply.json for reply in held.replies]
    assert [b""] * (QUEUE + 1) == held.spare
    assert [200] * IDLE == [reply.status for reply in held.kept]
    # Ten times the goal: other programs run here, too.
    assert max(seconds for _, seconds in [*held.refused, *held.healthy]) < 0.5
    assert max(seconds for _, seconds in held.measured) < 2


def test_an_answer_does_not_wait_for_the_clients_confirmation() -> None:
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
