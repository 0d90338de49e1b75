"""What the server adds to the time of its backend, and how much of the backend's rate it gives."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fake_backend import FakeBackend
from benchmarks.serving_client import Connection, infer, message
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
TURN_S = 2.0
WARM_UP = 5
"""Requests of each turn that do not count: connections are made, processors wake up."""
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
    randomly = poisson(LOAD * RATE, seconds, SEED)
    with _isolated() as isolated, serving(params={"batch_size": 1}) as server:
        here, there = _bare(FakeBackend({})), _bare(isolated)
        health = Pool(server.port, lambda number: message("GET", "/healthz"))
        asks: dict[str, Ask] = {
            "in this process": here,
            "in another process": there,
            "served": _served(server),
            "/healthz": health,
        }
        evenly = dict(_in_turn(asks, seconds))
        floor = percentile(evenly.pop("/healthz"), 50) * MS
        waited = {
            # Even a perfect server lets these wait; what counts is how much longer than before the backend alone.
            "in an ideal queue": ideal(randomly, CALL_S),
            "in another process": run(open_loop(randomly, there)),
            "served": run(open_loop(randomly, _served(server))),
        }
    figures = [figure for what, found in evenly.items() for figure in _over(f"evenly, {what}", found)]
    figures += [figure for what, found in waited.items() for figure in _over(f"at random, {what}", found)]
    return [*figures, Figure("evenly, /healthz: p50, what HTTP and this client cost", floor, "ms")]


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
    """Write time series to a Redis that refuses, and to one that never answers.

    One in a hundred of a few hundred requests is a matter of chance: two servers without Redis show of how much.
    """
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        refused = stack.enter_context(_closed_port())
        ports = {"without": None, "refused": refused, "silent": silent.getsockname()[1], "again": None}
        asks = {}
        for name, port in ports.items():
            section = None if port is None else {"send": True, "host": "127.0.0.1", "port": port}
            asks[name] = _served(stack.enter_context(serving(params={"batch_size": 1}, redis=section)))
        found = _in_turn(asks, seconds)
    without = percentile([*found["without"], *found["again"]], 99) * MS
    more = {name: percentile(each, 99) * MS - without for name, each in found.items()}
    return [
        Figure("p99 without Redis, of two servers", without, "ms"),
        Figure("one of the two more than the other", abs(more["without"] - more["again"]), "ms"),
        Figure("more where it refuses", more["refused"], "ms", GOAL_REDIS_MS),
        Figure("more where it never answers", more["silent"], "ms", GOAL_REDIS_MS),
    ]


def _over(what: str, found: Sequence[float]) -> Sequence[Figure]:
    """Show what was beyond the backend's own time."""
    more = [(each - CALL_S) * MS for each in found]
    promised = what == "evenly, served"
    return [
        Figure(f"{what}: p50 over 20 ms", percentile(more, 50), "ms", GOAL_P50_MS if promised else None),
        Figure(f"{what}: p99 over 20 ms", percentile(more, 99), "ms", GOAL_P99_MS if promised else None),
    ]


def _in_turn(asks: Mapping[str, Ask], seconds: float) -> Mapping[str, Sequence[float]]:
    """Ask evenly, of one after the other and again: what else the machine does meets them all."""

    async def go() -> Mapping[str, Sequence[float]]:
        found: dict[str, list[float]] = {name: [] for name in asks}
        rounds = max(1, round(seconds / TURN_S))
        for number in range(rounds):
            # Each is asked first in turn.
            for name, ask in [*asks.items()][number % len(asks) :] + [*asks.items()][: number % len(asks)]:
                found[name] += (await open_loop(constant(LOAD * RATE, seconds / rounds), ask))[WARM_UP:]
        return found

    return run(go())


def _served(server: Server) -> Ask:
    return Pool(server.port, lambda number: infer(f"text {number}"))


def _bare(backend: TextBackend) -> Ask:
    """Ask the backend itself, one call at a time."""
    threads = ThreadPoolExecutor(1)

    def call() -> None:
        backend.generate([Prompt("text", SAMPLING)], _Nobody())

    async def ask(number: int) -> None:
        await asyncio.get_running_loop().run_in_executor(threads, call)

    return ask


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
