"""A client that leaves frees what it held: the model, the queue, the connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serving_client import Connection, infer, metric, post, until
from benchmarks.serving_process import Server, serving

pytestmark = pytest.mark.load

PACE_MS = 20
WORDS = 5000
"""At that pace it would take more than a minute and a half."""
STREAM = post("/v1/completions", {"prompt": "tell", "stream": True, "max_tokens": WORDS})
GOAL_S = 1.0
CANCELLED = "forge_requests_cancelled_total"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate") / "never"


@pytest.fixture(scope="module")
def server(gate: Path) -> Iterator[Server]:
    environ = {"FAKE_TOKEN_MS": str(PACE_MS), "FAKE_GATE": str(gate)}
    with serving(params={"batch_size": 1, "max_length": 2 * WORDS}, environ=environ) as server:
        yield server


async def leave(port: int, data: bytes, *, stream: bool) -> float:
    """Ask, leave, and return how long it takes until the model is free and the next one answered."""
    before = await metric(port, CANCELLED)
    batches = await metric(port, "forge_batch_items_count")
    connection = Connection(port)
    await connection.open()
    connection.write(data)
    if stream:
        await connection.head()
        await connection.some(1)
    await until(lambda: metric(port, "forge_batch_items_count"), batches + 1)
    connection.close()
    started = time.perf_counter()
    await until(lambda: metric(port, CANCELLED), before + 1)
    reply = await Connection(port).ask(infer("next"))
    taken = time.perf_counter() - started

    assert (200, {"next": "NEXT"}) == (reply.status, reply.json)
    await until(lambda: metric(port, "forge_requests_in_flight"), 0)
    return taken


def test_leaving_a_stream_ends_its_generation(server: Server) -> None:
    assert asyncio.run(leave(server.port, STREAM, stream=True)) < 5 * GOAL_S


def test_leaving_before_the_answer_ends_the_run(server: Server) -> None:
    assert asyncio.run(leave(server.port, infer("!wait"), stream=False)) < 5 * GOAL_S


def test_leaving_the_queue_takes_nothing_of_the_model(server: Server) -> None:
    async def scenario() -> tuple[float, float]:
        port = server.port
        batches = await metric(port, "forge_batch_items_count")
        holder, *queued = [Connection(port) for _ in range(21)]
        for connection, text in zip([holder, *queued], ["!wait", *["queued"] * 20], strict=True):
            await connection.open()
            connection.write(infer(text))
            if connection is holder:
                await until(lambda: metric(port, "forge_batch_items_count"), batches + 1)
        await until(lambda: metric(port, "forge_queue_depth"), 20)
        for connection in queued:
            connection.close()
        await until(lambda: metric(port, "forge_queue_depth"), 0)
        holder.close()
        await until(lambda: metric(port, "forge_requests_in_flight"), 0)
        return batches, await metric(port, "forge_batch_items_count")

    before, after = asyncio.run(scenario())

    assert before + 1 == after


def test_leaving_a_batch_leaves_the_others_their_answers(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    params = {"batch_size": 4, "batch_wait_ms": 2000}
    with serving(params=params, environ={"FAKE_GATE": str(gate)}) as server:

        async def scenario() -> list[dict[str, str]]:
            port = server.port
            gone = Connection(port)
            await gone.open()
            gone.write(infer("!wait"))
            stay = [asyncio.ensure_future(Connection(port).ask(infer(text))) for text in ("a", "b", "c")]
            await until(lambda: metric(port, "forge_batch_items_count"), 1)
            gone.close()
            return [(await each).json for each in stay]

        assert [{"a": "A"}, {"b": "B"}, {"c": "C"}] == asyncio.run(scenario())
        assert 4 == asyncio.run(metric(server.port, "forge_batch_items_sum"))
