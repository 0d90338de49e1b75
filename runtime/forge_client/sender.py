"""Sending one call to its end: over one connection, again where that is safe, and timed."""

from __future__ import annotations

import asyncio
import random
from array import array
from dataclasses import dataclass, field

from forge_client.call import Call, Tally, refusal
from forge_client.connection import Connection
from forge_client.error import RequestFailed

__all__ = ["Retries", "Sample", "Sender"]

BUSY = frozenset({"rejected", "unavailable"})


@dataclass(frozen=True, slots=True)
class Retries:
    """When to send again: never once a part of an answer has come."""

    count: int = 3
    first: float = 0.1
    """Seconds to wait before the first one; it doubles."""
    longest: float = 10.0
    """Seconds to wait at most, whatever the server asks."""
    rejected: bool = True
    """Send again after 429. Not in an open loop: there, that the server cannot keep up is the result."""

    def covers(self, error: RequestFailed) -> bool:
        """Say whether sending again can neither harm nor be in vain."""
        return error.unanswered or (error.kind in BUSY and (self.rejected or error.kind != "rejected"))

    def pause(self, number: int, asked: float | None, draw: random.Random) -> float:
        """Choose how long to wait before the retry of that number, from 0."""
        grown = min(self.longest, self.first * 2.0**number) * draw.uniform(0.5, 1.0)
        return min(self.longest, max(grown, asked or 0.0) * draw.uniform(1.0, 1.1))


@dataclass(slots=True)
class Sample:
    """What became of one call; times by the loop's clock."""

    due: float
    """When it was meant to be sent."""
    sent: float = 0.0
    ended: float = 0.0
    first: float | None = None
    """When the first token came."""
    gaps: array[float] = field(default_factory=lambda: array("d"))
    tally: Tally | None = None
    """What it brought; None when it failed."""
    kind: str = ""
    """How it failed."""
    text: str = ""
    retries: int = 0


class Sender:
    """One client, with a connection of its own."""

    def __init__(self, connection: Connection, retries: Retries, draw: random.Random) -> None:
        self._connection = connection
        self._retries = retries
        self._draw = draw

    async def open(self) -> None:
        """Connect beforehand; what goes wrong is told by the first call."""
        try:
            await self._connection.open()
        except RequestFailed:
            return

    async def send(self, call: Call, due: float) -> Sample:
        """Send a call, if need be again; it never raises for what the server does."""
        loop = asyncio.get_running_loop()
        sample = Sample(due, sent=loop.time())
        while True:
            try:
                await self._attempt(call, sample)
                sample.kind = sample.text = ""
                break
            except RequestFailed as error:
                sample.kind, sample.text = error.kind, error.text
                if sample.retries >= self._retries.count or not self._retries.covers(error):
                    break
                pause = self._retries.pause(sample.retries, error.retry_after, self._draw)
            sample.retries += 1
            await asyncio.sleep(pause)
        sample.ended = loop.time()
        return sample

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    async def _attempt(self, call: Call, sample: Sample) -> None:
        if call.collect is None:
            response = await self._connection.exchange(call.message)
            if response.status != 200:
                raise refusal(response)
            sample.tally = call.judge(response)
            return
        collector = call.collect()
        response = await self._connection.exchange(call.message, collector.feed)
        if response.status != 200:
            raise refusal(response)
        sample.tally = collector.tally(response)
        sample.first, sample.gaps = collector.first, collector.gaps
