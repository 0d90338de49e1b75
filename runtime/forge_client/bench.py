"""A measurement: warm-up, then one level of load after the other."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import resource
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from forge_client.call import Call
from forge_client.connection import Timeouts
from forge_client.error import UsageFault
from forge_client.loop import HOPELESS, Bound, Record, arrivals, closed_loop, open_loop
from forge_client.observation import Observation, Watch
from forge_client.sender import Retries, Sender
from forge_client.server import Server
from forge_client.stat import Summary, summarize

__all__ = ["Level", "Outcome", "Plan", "Progress", "Tolerance", "bench"]

Progress = Callable[[str, Record | None], None]
"""Told what runs now, and again and again how far it is."""

PROGRESS_S = 0.5


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many requests may be left without an answer: a number, or a share of them."""

    count: int = 0
    share: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Tolerance:
        """Read `5` or `1%`; UsageFault when it is neither."""
        try:
            if text.endswith("%"):
                share = float(text[:-1]) / 100
                if 0 <= share <= 1:
                    return cls(0, share)
            elif int(text) >= 0:
                return cls(int(text))
        except ValueError:
            pass
        raise UsageFault(f"--max-errors cannot be {text!a}", "Write `5` or `1%`")

    def covers(self, lost: int, requests: int) -> bool:
        """Say whether so many lost ones are within it."""
        return lost <= max(self.count, self.share * requests)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    concurrency: tuple[int, ...] = (1,)
    rates: tuple[float, ...] = ()
    """Requests a second; where there are some, the loop is open."""
    pacing: Literal["constant", "poisson"] = "constant"
    bound: Bound = field(default_factory=lambda: Bound(100))
    warmup: int = 5
    seed: int = 0
    retries: Retries = field(default_factory=Retries)
    timeouts: Timeouts = field(default_factory=Timeouts)
    tolerance: Tolerance = field(default_factory=Tolerance)
    max_latency_ms: float | None = None
    """The sweep ends with the first level whose p99 is above."""
    connections: int = 512
    """Open loop: connections at most."""
    server_metrics: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """One step of the sweep."""

    concurrency: int | None
    """Closed loop: clients."""
    rate: float | None
    """Open loop: requests a second that were sent."""
    summary: Summary
    observation: Observation
    client_cpu_seconds: float
    """What the load generator itself took of one processor."""

    @property
    def name(self) -> str:
        """Say what it was, in a word."""
        return f"concurrency {self.concurrency}" if self.rate is None else f"rate {self.rate:g}/s"

    @property
    def lost(self) -> int:
        """Requests without a good answer."""
        return self.summary.failed + self.summary.rejected


@dataclass(frozen=True, slots=True)
class Outcome:
    """All levels that were measured."""

    levels: tuple[Level, ...]
    warmup_errors: int = 0
    stopped: str = ""
    """Why levels were left out; empty when none were."""
    good: bool = True
    """Every level is within the tolerance."""


async def bench(server: Server, calls: Sequence[Call], plan: Plan, progress: Progress) -> Outcome:
    """Warm up and measure every level, until one fails."""
    bench = _Bench(server, itertools.cycle(calls), plan, progress, random.Random(plan.seed))
    warmup_errors = await bench.warm_up()
    loads: list[float] = list(plan.rates or plan.concurrency)
    levels: list[Level] = []
    for load in loads:
        level = await bench.level(load)
        levels.append(level)
        summary = level.summary
        if not plan.tolerance.covers(level.lost, summary.requests):
            stopped = f"{level.name}: {_losses(summary)}"
            return Outcome(tuple(levels), warmup_errors, stopped, good=False)
        slow = plan.max_latency_ms is not None and summary.latency_ms and summary.latency_ms.p99 > plan.max_latency_ms
        if slow and load != loads[-1]:
            stopped = f"{level.name}: p99 is above {plan.max_latency_ms:g} ms"
            return Outcome(tuple(levels), warmup_errors, stopped)
    return Outcome(tuple(levels), warmup_errors)


def _losses(summary: Summary) -> str:
    told = ", ".join(f"{count} {kind}" for kind, count in summary.errors.items())
    lost = summary.failed + summary.rejected
    return f"{lost} of {summary.requests} requests without a good answer ({told})"


@dataclass(slots=True)
class _Bench:
    server: Server
    calls: Iterator[Call]
    plan: Plan
    progress: Progress
    draw: random.Random

    async def warm_up(self) -> int:
        """Send what does not count; the number of failures."""
        if not self.plan.warmup:
            return 0
        clients = 1 if self.plan.rates else min(self.plan.concurrency[0], self.plan.warmup)
        record = Record(Bound(self.plan.warmup), max(HOPELESS, clients))
        await self._run("Warm-up", record, self._closed(clients, record))
        return len(record.samples) - record.answered

    async def level(self, load: float) -> Level:
        """Measure one."""
        rate = load if self.plan.rates else None
        clients = 1 if rate else int(load)
        record = Record(self.plan.bound, max(HOPELESS, clients))
        watch = Watch(self.server, self.plan.server_metrics)
        await watch.begin()
        # What is there stays: the collector is not to go through it in the midst of a measurement.
        gc.collect()
        gc.freeze()
        before = _cpu_seconds()
        name = f"Rate {rate:g}/s" if rate else f"Concurrency {clients}"
        try:
            await self._run(name, record, self._open(rate, record) if rate else self._closed(clients, record))
        finally:
            watch.stop()
        spent = round(_cpu_seconds() - before, 3)
        seconds = record.seconds
        observation = await watch.end(seconds, record.answered)
        summary = summarize(record.samples, seconds, paced=rate is not None)
        return Level(None if rate else clients, rate, summary, observation, spent)

    async def _run(self, name: str, record: Record, work: asyncio.Task[None]) -> None:
        self.progress(name, None)
        try:
            while not work.done():
                await asyncio.wait([work], timeout=PROGRESS_S)
                self.progress(name, record)
            work.result()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    def _closed(self, clients: int, record: Record) -> asyncio.Task[None]:
        senders = [self._sender(self.plan.retries) for _ in range(clients)]

        async def run() -> None:
            try:
                await closed_loop(senders, self.calls, record)
            finally:
                for sender in senders:
                    sender.close()

        return asyncio.ensure_future(run())

    def _open(self, rate: float, record: Record) -> asyncio.Task[None]:
        retries = replace(self.plan.retries, rejected=False)
        offsets = arrivals(rate, self.draw if self.plan.pacing == "poisson" else None)
        work = open_loop(
            lambda: self._sender(retries),
            self.calls,
            record,
            offsets,
            connections=self.plan.connections,
            drain=self.plan.timeouts.total,
        )
        return asyncio.ensure_future(work)

    def _sender(self, retries: Retries) -> Sender:
        return Sender(self.server.connection(self.plan.timeouts), retries, self.draw)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
