"""Faults and load that a server is to survive, measured: held and slow connections, a soak, a drain."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving_client import Connection, infer, message, metric, post, until
from benchmarks.serving_drain import stop_under_load
from benchmarks.serving_figure import Figure
from benchmarks.serving_held import hold
from benchmarks.serving_load import closed_loop, constant, open_loop, percentile, run
from benchmarks.serving_process import Server, serving
from benchmarks.serving_rate import MS, RATE, Asking
from benchmarks.serving_slow import BODY, HEADERS, ignore, trickle

__all__ = ["drain", "held", "slow", "soak"]

IDLE, QUEUE, MORE, PROBES = 1000, 256, 50, 200
SLOW = 200
"""Clients that send slowly, and as many that do not read."""
DEADLINE_S = 8.0
LATE_S = 2.0
"""After its deadline; that of a reader is looked at four times in its length."""
GOOD = 4
SOAK_LOAD = 0.7
FILL_S = 10.0
MIB = 2**20


def held() -> Sequence[Figure]:
    """Hold a thousand connections and a full queue, and ask for more."""
    with tempfile.TemporaryDirectory() as folder:
        gate = Path(folder) / "gate"
        environ = {"FAKE_KIND": "serial", "FAKE_GATE": str(gate)}
        with serving(environ=environ, params={"batch_size": 1}) as server:
            found = asyncio.run(hold(server.port, gate, idle=IDLE, queue=QUEUE, more=MORE, probes=PROBES))
    texts = list(zip(found.prompts, found.replies, strict=True))
    lost = sum(reply.status != 200 or reply.json != {text: text.upper()} for text, reply in texts)
    admitted = sum(reply.status != 429 or "retry-after" not in reply.headers for reply, _ in found.refused)
    return [
        Figure("lost or wrong of 257 that were accepted", lost, "", 0),
        Figure("answered twice", sum(map(bool, found.spare)), "", 0),
        Figure("not refused by a full queue", admitted, "", 0),
        Figure("idle connections lost of 1000", sum(reply.status != 200 for reply in found.kept), "", 0),
        Figure("longest until 429", max(seconds for _, seconds in found.refused) * MS, "ms", 50),
        Figure("/healthz p99", percentile([seconds for _, seconds in found.healthy], 99) * MS, "ms", 50),
        Figure("/metrics p99", percentile([seconds for _, seconds in found.measured], 99) * MS, "ms", 200),
    ]


def slow(seconds: float) -> Sequence[Figure]:
    """Serve good clients beside slow ones; `seconds` are at most those until the first is given up."""
    seconds = min(seconds, DEADLINE_S - 3)
    names = ("header_timeout_s", "body_timeout_s", "write_timeout_s")
    with serving(server=dict.fromkeys(names, DEADLINE_S), params={"batch_size": 8, "batch_wait_ms": 0}) as server:
        good, beside, ends = asyncio.run(_beside(server.port, seconds))
        asyncio.run(until(lambda: metric(server.port, "forge_requests_in_flight"), 0))
    p99 = percentile(good, 99), percentile(beside, 99)
    return [
        Figure("p99 of 4 good clients, alone", p99[0] * MS, "ms"),
        Figure("p99 beside 200 slow senders and 200 slow readers", p99[1] * MS, "ms"),
        Figure("ratio", p99[1] / p99[0], "times", 1.2),
        Figure("longest after its deadline until one was gone", max(ends) - DEADLINE_S, "s", LATE_S),
    ]


async def _beside(port: int, seconds: float) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    client = Asking(port).client
    _, good = await closed_loop(GOOD, seconds, client)
    timeout = 3 * DEADLINE_S
    senders = [
        asyncio.ensure_future(trickle(port, start, pause_s=1.0, timeout=timeout))
        for start in [HEADERS, BODY] * (SLOW // 2)
    ]
    readers = [asyncio.ensure_future(ignore(port, timeout=timeout)) for _ in range(SLOW)]
    await until(lambda: metric(port, "forge_requests_in_flight"), SLOW // 2 + SLOW)
    await until(lambda: metric(port, "forge_queue_depth"), 0)
    _, beside = await closed_loop(GOOD, seconds, client)
    ends = [taken for _, taken in await asyncio.gather(*senders)]
    return good, beside, [*ends, *await asyncio.gather(*readers)]


def soak(seconds: float) -> Sequence[Figure]:
    """Ask at 70 % of the rate, now and then for a stream, wrongly, or without waiting for the answer."""
    with serving(params={"batch_size": 8, "batch_wait_ms": 0}) as server:
        # The last lines of the log and the last requests are kept: let that fill up.
        run(closed_loop(32, FILL_S, Asking(server.port).client))
        samples = run(_soak(server, seconds))
        cancelled = asyncio.run(metric(server.port, "forge_requests_cancelled_total"))
        errors = len(server.errors())
    late = [sample for sample in samples if sample[0] >= seconds / 6]
    descriptors = [count for _, _, count in late]
    return [
        Figure("seconds", seconds, "s"),
        Figure("memory at the end", samples[-1][1] / MIB, "MiB"),
        Figure("slope of the memory", _slope(late) * 60 / MIB, "MiB/min", 1),
        Figure("descriptors, most less least", max(descriptors) - min(descriptors), "", 8),
        Figure("clients that left", cancelled, ""),
        Figure("errors in the log", errors, "", 0),
    ]


async def _soak(server: Server, seconds: float) -> list[tuple[float, int, int]]:
    """Return time, memory and descriptors, each second."""
    samples: list[tuple[float, int, int]] = []
    started = time.monotonic()
    free: list[Connection] = []
    stream = post("/v1/completions", {"prompt": "text", "stream": True, "max_tokens": 8})

    async def ask(number: int) -> None:
        connection = free.pop() if free else Connection(server.port)
        if number % 50 == 31:
            await connection.open()
            connection.write(infer("nobody waits"))
            await asyncio.sleep(0.005)
            connection.close()
            return
        wrong = number % 20 == 7
        data = message("POST", "/api/infer", b"{") if wrong else stream if number % 10 == 3 else infer(f"text {number}")
        reply = await connection.ask(data)
        if reply.status != (400 if wrong else 200):
            raise RuntimeError(f"Status {reply.status}: {reply.body[:200]!r}")
        free.append(connection)

    async def watch() -> None:
        while True:
            samples.append((time.monotonic() - started, server.rss(), server.descriptors()))
            await asyncio.sleep(1)

    watching = asyncio.ensure_future(watch())
    await open_loop(constant(SOAK_LOAD * RATE, seconds), ask)
    watching.cancel()
    for connection in free:
        connection.close()
    return samples


def _slope(samples: Sequence[tuple[float, int, int]]) -> float:
    """Fit a line to the memory; bytes a second."""
    count = len(samples)
    mean_t = sum(at for at, _, _ in samples) / count
    mean_m = sum(memory for _, memory, _ in samples) / count
    square = sum((at - mean_t) ** 2 for at, _, _ in samples)
    return sum((at - mean_t) * (memory - mean_m) for at, memory, _ in samples) / square if square else 0.0


def drain() -> Sequence[Figure]:
    """Tell a server to stop at full load."""
    with serving(params={"batch_size": 8, "batch_wait_ms": 5}) as server:
        drained = asyncio.run(stop_under_load(server, clients=64, after_s=2))
        status = server.process.wait(60)
        took = time.perf_counter() - drained.signalled
    before, after = drained.before(), drained.after()
    bad = [outcome for outcome in before if outcome not in ("answered", "refused")]
    cut = [outcome for outcome in after if outcome in ("cut", "wrong")]
    return [
        Figure("sent before the signal: answered", before.count("answered")),
        Figure("sent before the signal: told to go elsewhere", before.count("refused")),
        Figure("sent before the signal: lost, cut off or wrong", len(bad), "", 0),
        Figure("sent after it: told to go elsewhere", after.count("refused")),
        Figure("sent after it: closed without an answer", after.count("lost")),
        Figure("sent after it: cut off or wrong", len(cut), "", 0),
        Figure("exit status", status, "", 0),
        Figure("from the signal to the end", took, "s", 30),
    ]
