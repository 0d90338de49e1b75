"""What the server adds to the time of its backend, and how much of the backend's rate it gives."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fake_backend import FakeBackend
from benchmarks.serving_client import Connection, infer
from benchmarks.serving_figure import Figure
from benchmarks.serving_load import (
    Ask,
    Client,
    Pool,
    closed_loop,
    constant,
    ideal,
    open_loop,
    percentile,
    poisson,
    run,
)
from benchmarks.serving_process import Server, serving
from forge_runtime.backend import Prompt, TextBackend
from forge_runtime.config import ModelConfig, Params
from forge_runtime.isolated import IsolatedText
from forge_runtime.request import Sampling

__all__ = ["Asking", "batching", "overhead", "redis", "steady"]

CALL_S = 0.02
RATE = 1 / CALL_S
LOAD = 0.9
SEED = 5
MS = 1000.0
SAMPLING = Sampling(64)
GOAL_P50_MS, GOAL_P99_MS = 3.0, 15.0
GOAL_SHARE, GOAL_GAIN = 0.9, 5.0
GOAL_REDIS_MS = 1.0


@dataclass(frozen=True, slots=True)
class Asking:
    """Makes requests, none like another."""

    port: int

    def client(self, number: int) -> Ask:
        """Return what asks on one connection."""
        return Client(Connection(self.port), lambda count: infer(f"text {number} {count}"))


def overhead(seconds: float) -> Sequence[Figure]:
    """Ask at nine tenths of the backend's rate, bare and through the server."""
    evenly = constant(LOAD * RATE, seconds)
    randomly = poisson(LOAD * RATE, seconds, SEED)
    figures = [*_shown("evenly", "in this process", _bare(evenly, FakeBackend({})))]
    with _isolated() as backend:
        figures += _shown("evenly", "in another process", _bare(evenly, backend))
    with serving(params={"batch_size": 1}) as server:
        figures += _shown("evenly", "served", _served(evenly, server), goal=True)
        served = _served(randomly, server)
    # Even a perfect server lets these wait; what counts is how much longer they do than in front of the backend alone.
    figures += _shown("at random", "a queue that costs nothing", [each * MS for each in ideal(randomly, CALL_S)])
    with _isolated() as backend:
        figures += _shown("at random", "in another process", _bare(randomly, backend))
    return [*figures, *_shown("at random", "served", served)]


def steady(seconds: float) -> Sequence[Figure]:
    """Ask all the time: how much of the backend's rate is left."""
    with serving(params={"batch_size": 1}, environ={"FAKE_KIND": "serial"}) as server:
        rate, found = run(closed_loop(8, seconds, Asking(server.port).client))
    return [
        Figure("share of the backend's rate, 8 clients", rate / RATE, "", GOAL_SHARE, "higher"),
        Figure("p99 of the latency, 8 clients", percentile(found, 99) * MS, "ms"),
    ]


def batching(seconds: float) -> Sequence[Figure]:
    """Ask from 32 sides, of a backend that takes as long for eight as for one."""
    rates = {}
    for size in (1, 8):
        with serving(params={"batch_size": size, "batch_wait_ms": 10}) as server:
            rates[size], _ = run(closed_loop(32, seconds, Asking(server.port).client))
    return [
        Figure("one at a time, 32 clients", rates[1], "1/s"),
        Figure("batches of 8 within 10 ms, 32 clients", rates[8], "1/s"),
        Figure("gain", rates[8] / rates[1], "times", GOAL_GAIN, "higher"),
    ]


def redis(seconds: float) -> Sequence[Figure]:
    """Write time series to a Redis that refuses, and to one that never answers."""
    times = constant(LOAD * RATE, seconds)
    found = {}
    with socket.create_server(("127.0.0.1", 0)) as silent, _closed_port() as port:
        places = {"without": None, "refused": port, "silent": silent.getsockname()[1]}
        for name, place in places.items():
            section = None if place is None else {"send": True, "host": "127.0.0.1", "port": place}
            with serving(params={"batch_size": 1}, redis=section) as server:
                found[name] = percentile(_served(times, server), 99)
    return [
        Figure("p99 without Redis", found["without"], "ms"),
        Figure("more where it refuses", found["refused"] - found["without"], "ms", GOAL_REDIS_MS),
        Figure("more where it never answers", found["silent"] - found["without"], "ms", GOAL_REDIS_MS),
    ]


def _shown(arrivals: str, what: str, milliseconds: Sequence[float], *, goal: bool = False) -> Sequence[Figure]:
    """Show what was beyond the backend's own time."""
    more = [each - CALL_S * MS for each in milliseconds]
    return [
        Figure(f"{arrivals}, {what}: p50 over 20 ms", percentile(more, 50), "ms", GOAL_P50_MS if goal else None),
        Figure(f"{arrivals}, {what}: p99 over 20 ms", percentile(more, 99), "ms", GOAL_P99_MS if goal else None),
    ]


def _served(times: Sequence[float], server: Server) -> Sequence[float]:
    async def go() -> Sequence[float]:
        pool = Pool(server.port, lambda number: infer(f"text {number}"))
        for number in range(10):
            await pool(number)
        found = await open_loop(times, pool)
        pool.close()
        return found

    return [each * MS for each in run(go())]


def _bare(times: Sequence[float], backend: TextBackend) -> Sequence[float]:
    """Ask the backend itself, one call at a time."""

    async def go() -> Sequence[float]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:

            async def ask(number: int) -> None:
                await loop.run_in_executor(pool, call)

            return await open_loop(times, ask)

    def call() -> None:
        backend.generate([Prompt("text", SAMPLING)], _Nobody())

    return [each * MS for each in run(go())]


class _Nobody:
    """Reads nothing along, and waits to the end."""

    def cancelled(self, index: int) -> bool:
        return False

    def emit(self, index: int, text: str) -> None:
        pass


@contextlib.contextmanager
def _isolated() -> Iterator[IsolatedText]:
    backend = IsolatedText("benchmarks.fake_backend")
    backend.load(ModelConfig("fake", Path(os.devnull)), Params())
    try:
        yield backend
    finally:
        backend.close()


@contextlib.contextmanager
def _closed_port() -> Iterator[int]:
    """Keep a port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]
