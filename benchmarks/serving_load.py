"""Load: requests at given times, whatever comes of them, or as fast as a number of clients can; and what it took."""

from __future__ import annotations

import asyncio
import random
import selectors
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.serving_client import Connection

__all__ = ["Client", "Pool", "closed_loop", "constant", "ideal", "open_loop", "percentile", "poisson", "run"]

Result = TypeVar("Result")
Ask = Callable[[int], Awaitable[object]]
"""Does the request of a number, and returns when it is answered."""
WARM_UP_S = 0.5


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run with a clock that is exact: epoll's waits are of whole milliseconds. For up to a thousand descriptors."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(work)


def constant(rate: float, seconds: float) -> Sequence[float]:
    """Return times of arrival, all as far from each other."""
    return [number / rate for number in range(int(rate * seconds))]


def poisson(rate: float, seconds: float, seed: int) -> Sequence[float]:
    """Return times of arrival that know nothing of each other."""
    draw = random.Random(seed)
    times = [0.0]
    while times[-1] < seconds:
        times.append(times[-1] + draw.expovariate(rate))
    return times[:-1]


def ideal(times: Sequence[float], call_s: float) -> Sequence[float]:
    """Return the latencies of one queue that costs nothing itself."""
    free, found = 0.0, []
    for at in times:
        free = max(free, at) + call_s
        found.append(free - at)
    return found


async def open_loop(times: Sequence[float], ask: Ask) -> Sequence[float]:
    """Ask at these times; return seconds from when each was due to its answer, in their order."""
    loop = asyncio.get_running_loop()
    started = loop.time() + 0.05
    found = [0.0] * len(times)

    async def one(number: int) -> None:
        await ask(number)
        found[number] = loop.time() - started - times[number]

    tasks = []
    for number, at in enumerate(times):
        left = started + at - loop.time()
        if left > 0:
            await asyncio.sleep(left)
        tasks.append(asyncio.ensure_future(one(number)))
    await asyncio.gather(*tasks)
    return found


async def closed_loop(clients: int, seconds: float, client: Callable[[int], Ask]) -> tuple[float, Sequence[float]]:
    """Let clients ask one thing after the other; return answers per second and the seconds that each took."""
    begun = time.perf_counter() + WARM_UP_S
    end = begun + seconds
    found: list[float] = []

    async def work(number: int) -> None:
        ask = client(number)
        count = 0
        while (started := time.perf_counter()) < end:
            await ask(count)
            count += 1
            now = time.perf_counter()
            if begun <= now < end:
                found.append(now - started)

    await asyncio.gather(*(work(number) for number in range(clients)))
    return len(found) / seconds, found


def percentile(values: Sequence[float], share: int) -> float:
    """Return the value that `share` in a hundred are not above."""
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


@dataclass(frozen=True, slots=True)
class Client:
    """One connection that asks the same in other words each time, and must be answered."""

    connection: Connection
    make: Callable[[int], bytes]

    async def __call__(self, number: int) -> None:
        """Ask once."""
        await _answered(self.connection, self.make(number))


class Pool:
    """As many connections as there are requests at a time."""

    def __init__(self, port: int, make: Callable[[int], bytes]) -> None:
        self._port = port
        self._make = make
        self._free: list[Connection] = []

    async def __call__(self, number: int) -> None:
        """Ask once, on a connection of its own for so long."""
        connection = self._free.pop() if self._free else Connection(self._port)
        await _answered(connection, self._make(number))
        self._free.append(connection)

    def close(self) -> None:
        """Hang up."""
        for connection in self._free:
            connection.close()


async def _answered(connection: Connection, data: bytes) -> None:
    reply = await connection.ask(data)
    if reply.status != 200:
        raise RuntimeError(f"Status {reply.status}: {reply.body[:200]!r}")
