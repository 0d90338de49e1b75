"""SIGTERM under load: what was accepted is answered, the rest is told so, and the process ends with 0."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.serving_client import Connection, Lost, get, infer, metric
from benchmarks.serving_process import Server, is_alive, serving
from tests.load.wait import until

pytestmark = pytest.mark.load

CLIENTS = 32
HELD = 64
END_S = 15.0


@dataclass
class Tally:
    """What became of the requests of all clients."""

    sent: list[float] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)


@pytest.mark.parametrize("moment", [0.3, 0.437, 0.611])
def test_nothing_that_was_sent_before_is_lost(moment: float) -> None:
    with serving(params={"batch_size": 8, "batch_wait_ms": 5}) as server:
        pid = server.backend_pid()

        tally, signalled = asyncio.run(load(server, moment))

        assert 0 == server.process.wait(END_S)
        assert not is_alive(pid)
        before = [outcome for sent, outcome in zip(tally.sent, tally.outcomes, strict=True) if sent < signalled]
        # What the server had not read yet may be refused, but not lost; nothing is ever cut off.
        assert set() == set(before) - {"200", "503"}
        assert "cut" not in tally.outcomes
        assert before.count("200") > CLIENTS
        assert [] == server.errors()


async def load(server: Server, moment: float) -> tuple[Tally, float]:
    """Ask from all sides, and tell the server to stop in the middle of it."""
    tally = Tally()
    clients = [asyncio.ensure_future(ask(server.port, number, tally)) for number in range(CLIENTS)]
    await asyncio.sleep(moment)
    signalled = time.perf_counter()
    server.terminate()
    await asyncio.gather(*clients)
    return tally, signalled


async def ask(port: int, number: int, tally: Tally) -> None:
    """Ask until the server is gone, each time for something else."""
    connection = Connection(port)
    count = 0
    while True:
        count += 1
        prompt = f"{number} {count}"
        if not connection.is_open:
            try:
                await connection.open()
            except Lost:
                return
        sent = time.perf_counter()
        try:
            reply = await connection.ask(infer(prompt))
            right = reply.status != 200 or reply.json == {prompt: prompt.upper()}
            outcome = str(reply.status) if right else "another's answer"
        except Lost as error:
            outcome = "cut" if error.begun else "lost"
        tally.sent.append(sent)
        tally.outcomes.append(outcome)
        if outcome == "503":
            await asyncio.sleep(0.01)


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
