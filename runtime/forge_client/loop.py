"""The two ways of load.

Closed: each of N clients sends when it has got its answer, so that a slow server is asked less. It tells what N patient
clients get. Open: requests are sent at a rate whatever the server does, as a public does; a latency counts from the
moment that a request was meant to be sent, so that one that had to wait for its turn is not told as quick.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field

from forge_client.call import Call
from forge_client.sender import Sample, Sender

__all__ = ["Bound", "Record", "arrivals", "closed_loop", "open_loop"]

HOPELESS = 10
"""So many failures and no answer end a run, beside one of each client."""


@dataclass(frozen=True, slots=True)
class Bound:
    """When a run ends, whichever comes first; what has begun is finished."""

    requests: int | None = None
    seconds: float | None = None


@dataclass(slots=True)
class Record:
    """What came of a run so far."""

    bound: Bound
    patience: int = HOPELESS
    begun: int = 0
    answered: int = 0
    started: float = 0.0
    samples: list[Sample] = field(default_factory=list)

    def begin(self, offset: float) -> bool:
        """Count one more request, unless the run is over that many seconds after its start."""
        if self.bound.requests is not None and self.begun >= self.bound.requests:
            return False
        if self.bound.seconds is not None and offset >= self.bound.seconds:
            return False
        if self.hopeless:
            return False
        self.begun += 1
        return True

    def add(self, sample: Sample) -> None:
        """Take what became of a request."""
        self.samples.append(sample)
        self.answered += not sample.kind

    @property
    def hopeless(self) -> bool:
        """Say whether nothing at all is answered."""
        return self.answered == 0 and len(self.samples) >= self.patience

    @property
    def seconds(self) -> float:
        """Time from the start to the last answer."""
        return max((sample.ended for sample in self.samples), default=self.started) - self.started


def arrivals(rate: float, draw: random.Random | None) -> Iterator[float]:
    """Yield when to send, in seconds from the start: evenly, or as it comes by chance (Poisson)."""
    number, at = 0, 0.0
    while True:
        yield at
        number += 1
        at = number / rate if draw is None else at + draw.expovariate(rate)


async def closed_loop(senders: Sequence[Sender], calls: Iterator[Call], record: Record) -> None:
    """Let each sender send when it has got its answer."""
    loop = asyncio.get_running_loop()
    await _together([sender.open() for sender in senders])
    record.started = loop.time()

    async def work(sender: Sender) -> None:
        while record.begin((now := loop.time()) - record.started):
            record.add(await sender.send(next(calls), now))

    await _together([work(sender) for sender in senders])


async def open_loop(
    make: Callable[[], Sender],
    calls: Iterator[Call],
    record: Record,
    offsets: Iterator[float],
    *,
    connections: int,
    drain: float,
) -> None:
    """Send at the given offsets over as many connections as it takes, up to a limit; then wait for the last answers."""
    loop = asyncio.get_running_loop()
    record.started = loop.time()
    idle: list[Sender] = []
    slots = asyncio.Semaphore(connections)
    running: dict[asyncio.Task[None], float] = {}

    async def one(call: Call, due: float) -> None:
        async with slots:
            sender = idle.pop() if idle else make()
            record.add(await sender.send(call, due))
            idle.append(sender)

    try:
        for offset in offsets:
            if not record.begin(offset):
                break
            due = record.started + offset
            # Behind its time it still lets others run: answers are what it measures.
            await asyncio.sleep(max(0.0, due - loop.time()))
            task = loop.create_task(one(next(calls), due))
            running[task] = due
            task.add_done_callback(lambda done: _ended(running, done))
        await _drain(running, record, drain)
    finally:
        left = list(running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for sender in idle:
            sender.close()


async def _drain(running: dict[asyncio.Task[None], float], record: Record, seconds: float) -> None:
    """Wait for what is in flight; what has no answer by then has failed."""
    if running:
        await asyncio.wait(list(running), timeout=seconds)
    now = asyncio.get_running_loop().time()
    for task, due in running.items():
        if task.done():
            task.result()  # what is no fault of the server is raised here
        late = f"No answer within {seconds:g} s after the last request"
        record.add(Sample(due, sent=due, ended=now, kind="unfinished", text=late))


def _ended(running: dict[asyncio.Task[None], float], task: asyncio.Task[None]) -> None:
    if task.cancelled() or task.exception() is None:
        running.pop(task, None)


async def _together(work: Sequence[Coroutine[None, None, None]]) -> None:
    """Run them all; when one fails or the caller is stopped, none goes on."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
