"""SIGTERM under load: what was accepted is answered, the rest is told so, and the process ends with 0."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.serving_client import Connection, get, infer, metric, until
from benchmarks.serving_drain import stop_under_load
from benchmarks.serving_process import Server, is_alive, serving

pytestmark = pytest.mark.load

CLIENTS = 32
HELD = 64
END_S = 15.0


@pytest.mark.parametrize("moment", [0.3, 0.437, 0.611])
def test_nothing_that_was_sent_before_is_lost(moment: float) -> None:
    with serving(params={"batch_size": 8, "batch_wait_ms": 5}) as server:
        pid = server.backend_pid()

        drained = asyncio.run(stop_under_load(server, clients=CLIENTS, after_s=moment))

        assert 0 == server.process.wait(END_S)
        assert not is_alive(pid)
        # What the server had not read yet may be refused, but not lost; nothing is ever cut off.
        assert set() == set(drained.before()) - {"answered", "refused"}
        assert set() == set(drained.after()) - {"answered", "refused", "lost"}
        assert drained.before().count("answered") > CLIENTS
        assert [] == server.errors()


async def hold(server: Server) -> Sequence[asyncio.Future[int]]:
    """Fill the server with requests that wait for the gate."""
    port = server.port

    async def status(text: str) -> int:
        return (await Connection(port).ask(infer(text))).status

    held = [asyncio.ensure_future(status("!wait"))]
    await until(lambda: metric(port, "forge_batch_items_count"), 1)
    held += [asyncio.ensure_future(status(f"text {number}")) for number in range(HELD - 1)]
    await until(lambda: metric(port, "forge_requests_in_flight"), HELD)
    return held


def test_while_it_drains_it_is_not_ready_and_takes_nothing_more(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with serving(params={"batch_size": 1}, environ={"FAKE_GATE": str(gate), "FAKE_CALL_MS": "1"}) as server:

        async def scenario() -> tuple[int, int, int, list[int]]:
            held = await hold(server)
            server.terminate()
            await until(lambda: ready(server.port), 503)
            health = (await get(server.port, "/healthz")).status
            refused = await Connection(server.port).ask(infer("late"))
            alive = server.process.poll() is None
            gate.touch()
            return health, refused.status, alive, [await each for each in held]

        health, refused, alive, statuses = asyncio.run(scenario())

        assert (200, 503, True) == (health, refused, alive)
        assert [200] * HELD == statuses
        assert 0 == server.process.wait(END_S)


@pytest.mark.parametrize("end", ["a second signal", "its limit"])
def test_a_drain_that_does_not_end_is_cut_short(tmp_path: Path, end: str) -> None:
    """By a second signal, or after `drain_s`: who still waits is told, and the process ends with 0 all the same."""
    limits = {"drain_s": 30 if end == "a second signal" else 0.5}
    with serving(params={"batch_size": 1}, server=limits, environ={"FAKE_GATE": str(tmp_path / "never")}) as server:
        pid = server.backend_pid()

        async def scenario() -> list[int]:
            held = await hold(server)
            server.terminate()
            await until(lambda: ready(server.port), 503)
            if end == "a second signal":
                server.terminate()
            return [await each for each in held]

        assert Counter({503: HELD}) == Counter(asyncio.run(scenario()))
        assert 0 == server.process.wait(END_S)
        assert not is_alive(pid)


async def ready(port: int) -> float:
    return (await get(port, "/readyz")).status
