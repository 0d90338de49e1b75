"""A backend that crashes, is killed, hangs, raises or finds no memory: one request fails, with its id, and no other."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from benchmarks.serving_client import Connection, Reply, get, infer, metric, until
from benchmarks.serving_process import Server, is_alive, serving

pytestmark = pytest.mark.load

NEIGHBOURS = 10
HANG = {"deadline_s": 0.5, "hang_s": 0.3}
RESTARTS = "forge_backend_restarts_total"


async def fail(server: Server, prompt: str, gate: Path) -> tuple[Reply, list[Reply]]:
    """Let a fault happen while others wait behind it."""
    port = server.port
    faulty = asyncio.ensure_future(Connection(port).ask(infer(f"!wait {prompt}")))
    await until(lambda: metric(port, "forge_batch_items_count"), 1)
    others = [asyncio.ensure_future(Connection(port).ask(infer(f"text {n}"))) for n in range(NEIGHBOURS)]
    await until(lambda: metric(port, "forge_queue_depth"), NEIGHBOURS)
    gate.touch()
    healthy = [(await get(port, "/healthz")).status for _ in range(20)]

    assert [200] * 20 == healthy
    return await faulty, await asyncio.gather(*others)


@pytest.mark.parametrize("prompt", ["!crash", "!kill", "!raise", "!memory"])
def test_a_fault_is_one_failed_request(prompt: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    lost = prompt in ("!crash", "!kill")
    with serving(params={"batch_size": 1}, environ={"FAKE_GATE": str(gate), "FAKE_CALL_MS": "5"}) as server:
        before = server.backend_pid()

        faulty, others = asyncio.run(fail(server, prompt, gate))

        assert (500, "internal_error") == (faulty.status, faulty.json["error"]["code"])
        assert faulty.headers["x-request-id"] in faulty.json["error"]["message"]
        assert [200] * NEIGHBOURS == [reply.status for reply in others]
        assert 200 == asyncio.run(Connection(server.port).ask(infer("next"))).status
        assert int(lost) == asyncio.run(metric(server.port, RESTARTS))
        assert lost == (server.backend_pid() != before)


def test_a_hang_is_ended_before_another_run_begins() -> None:
    with serving(params={"batch_size": 1}, server=HANG) as server:
        before = server.backend_pid()

        async def scenario() -> tuple[Reply, bool, Reply]:
            hung = await Connection(server.port).ask(infer("!hang"))
            while (reply := await Connection(server.port).ask(infer("next"))).status in (503, 504):
                await asyncio.sleep(0.02)
            return hung, is_alive(before), reply

        hung, overlaps, answered = asyncio.run(scenario())

        assert (504, "deadline_exceeded") == (hung.status, hung.json["error"]["code"])
        assert not overlaps
        assert 200 == answered.status
        assert 1 == asyncio.run(metric(server.port, RESTARTS))


def test_a_killed_backend_costs_what_it_was_running_and_nothing_else() -> None:
    """The kernel's own signal, in the midst of load."""
    with serving(params={"batch_size": 1}, environ={"FAKE_CALL_MS": "50"}) as server:

        async def scenario() -> list[int]:
            port = server.port
            asking = [asyncio.ensure_future(Connection(port).ask(infer(f"text {n}"))) for n in range(20)]
            await until(lambda: metric(port, "forge_requests_in_flight"), len(asking))
            os.kill(server.backend_pid(), signal.SIGKILL)
            await until(lambda: metric(port, RESTARTS), 1)
            return [(await each).status for each in asking]

        statuses = asyncio.run(scenario())

        assert 1 == statuses.count(500)
        assert 19 == statuses.count(200)
