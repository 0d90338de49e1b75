"""A server that is told to stop while all sides ask: what became of each request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.serving_client import Connection, Lost, infer
from benchmarks.serving_process import Server

__all__ = ["Drained", "Outcome", "stop_under_load"]

Outcome = Literal[
    "answered",
    "refused",  # 503
    "wrong",  # another status, or another request's answer
    "lost",  # the connection ended before a byte of an answer
    "cut",  # and after some
]
PAUSE_S = 0.01
"""Before a client that was refused asks again."""


@dataclass
class Drained:
    """What became of the requests of all clients."""

    signalled: float = 0.0
    requests: list[tuple[float, Outcome]] = field(default_factory=list)
    """When each was sent, and what came of it."""

    def before(self) -> Sequence[Outcome]:
        """Those that were sent before the signal."""
        return [outcome for sent, outcome in self.requests if sent < self.signalled]

    def after(self) -> Sequence[Outcome]:
        """Those that were sent after it."""
        return [outcome for sent, outcome in self.requests if sent >= self.signalled]


async def stop_under_load(server: Server, *, clients: int, after_s: float) -> Drained:
    """Ask from all sides, tell the server to stop in the midst of it, and ask on until nobody listens.

    `after_s` counts from when more requests are answered than there are clients: a machine may stand still for a while.
    """
    drained = Drained()
    asking = [asyncio.ensure_future(_ask(server.port, number, drained)) for number in range(clients)]
    while len(drained.requests) <= clients and not any(each.done() for each in asking):
        await asyncio.sleep(PAUSE_S)
    await asyncio.sleep(after_s)
    drained.signalled = time.perf_counter()
    server.terminate()
    await asyncio.gather(*asking)
    return drained


async def _ask(port: int, client: int, drained: Drained) -> None:
    connection = Connection(port)
    number = 0
    while True:
        number += 1
        if not connection.is_open:
            try:
                await connection.open()
            except Lost:
                return
        sent = time.perf_counter()
        outcome = await _outcome(connection, f"{client} {number}")
        drained.requests.append((sent, outcome))
        if outcome == "refused":
            await asyncio.sleep(PAUSE_S)


async def _outcome(connection: Connection, prompt: str) -> Outcome:
    try:
        reply = await connection.ask(infer(prompt))
    except Lost as error:
        return "cut" if error.begun else "lost"
    if reply.status == 503:
        return "refused"
    return "answered" if reply.status == 200 and reply.json == {prompt: prompt.upper()} else "wrong"
