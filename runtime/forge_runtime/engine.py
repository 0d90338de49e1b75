"""A Lifecycle at work: its requests prepared, queued, run and finished."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from forge_runtime.batch import BatchRunner
from forge_runtime.error import RequestError, StepError
from forge_runtime.exchange import Exchange, Limits
from forge_runtime.lifecycle import AnyLifecycle
from forge_runtime.method import Emit, Headers, Method, Run
from forge_runtime.metric import Metrics
from forge_runtime.state import State, Status
from forge_runtime.step import timed
from forge_runtime.supervisor import Supervisor
from forge_runtime.worker import Batching, Job, QueueFullError, Worker

__all__ = ["Engine", "State"]

Result = TypeVar("Result")
Sample = tuple[Method, Any, Any]

MAX_SAMPLE = 32
"""Items; it is kept."""
HOOKS = 2**16
"""Calls that may wait for the hooks' thread; requests are refused long before."""


class Engine:
    """Two threads: one with the model, one with the hooks that must not touch it."""

    def __init__(
        self, create: Callable[[], AnyLifecycle], metrics: Metrics, limits: Limits, batching: Batching
    ) -> None:
        self._limits = limits
        self._status = Status()
        self._worker = Worker(limits.queue, batching)
        self._hooks = Worker(HOOKS, name="hooks")
        self._batches = BatchRunner(metrics)
        self._supervisor = Supervisor(create, self._worker, self._status, limits, metrics)
        self.sample: Sample | None = None
        """The first request that was answered: what it was decoded to, and its results."""
        metrics.ready.set_function(lambda: float(self.state is State.READY))
        metrics.queued.set_function(lambda: float(self.waiting))

    @property
    def state(self) -> State:
        """The present state."""
        return self._status.state

    @property
    def waiting(self) -> int:
        """Requests that wait for the model, or for the hooks before it."""
        return len(self._worker) + len(self._hooks)

    @property
    def batches(self) -> int:
        """Batches that were begun."""
        return self._worker.batches

    @property
    def once(self) -> dict[str, float]:
        """Seconds of `load` and `warm_up`."""
        return self._supervisor.once

    def start(self, loaded: Callable[[AnyLifecycle], None], failed: Callable[[], None]) -> None:
        """Load and warm up in the background; call `loaded` there, or `failed`, also at any later time."""
        self._hooks.start(lambda: True)
        self._worker.start(partial(self._supervisor.prepare, loaded, failed))

    def drain(self) -> None:
        """Take no more requests."""
        self._status.drain()

    def stop(self, timeout: float) -> bool:
        """End the threads; return whether they have ended in time."""
        ended = self._worker.stop(timeout)
        self._supervisor.close()
        ended = ended or self._worker.stop(timeout)
        return self._hooks.stop(timeout) and ended

    def admit(self) -> None:
        """Raise RequestError where a request would not be taken now."""
        if self.state is not State.READY:
            state = self.state.value
            raise RequestError(f"The server is {state}", status=503, code=state)
        if self.waiting >= self._limits.queue:
            raise _too_many()

    async def answer(self, method: Method, body: bytes, headers: Headers, exchange: Exchange) -> bytes:
        """Take one request through all steps."""
        decoded, prepared = await self.prepare(method, body, headers, exchange)
        results = await self.run(method, prepared, exchange)
        return await self.finish(method, decoded, results, exchange)

    async def prepare(self, method: Method, body: bytes, headers: Headers, exchange: Exchange) -> tuple[Any, Any]:
        """Decode and preprocess what was admitted; return what each gave."""
        if self.state is not State.DRAINING:  # its headers came before that: it is served
            self.admit()
        return await self.in_hooks(partial(self._decode, method, body, headers, exchange))

    async def run(self, method: Method, prepared: Any, exchange: Exchange, emit: Emit | None = None) -> Any:
        """Queue what is prepared and run it, alone or with others; cancel this, and it is told."""
        return await self._wait(self._worker, Run(self._batches.run, method, prepared, exchange, emit))

    async def finish(self, method: Method, decoded: Any, results: Any, exchange: Exchange) -> bytes:
        """Postprocess and encode."""
        body = await self.in_hooks(partial(self._encode, method, decoded, results, exchange))
        if self.sample is None and exchange.items <= MAX_SAMPLE:
            self.sample = (method, decoded, results)
        return body

    async def in_hooks(self, call: Callable[[], Result]) -> Result:
        """Run something in the thread of the hooks."""
        result: Result = await self._wait(self._hooks, _job(call))
        return result

    def submit_hook(self, call: Callable[[], Any]) -> Job:
        """Run something in the thread of the hooks when nothing else waits there; from any thread."""
        job = _job(call)
        self._hooks.submit_idle(job)
        return job

    def submit_idle(self, call: Callable[[Callable[[], bool]], Any]) -> Job:
        """Run something in the model's thread when no request waits; it is told when one does."""
        job = _job(lambda: call(lambda: len(self._worker) > 0))
        self._worker.submit_idle(job)
        return job

    def withdraw(self, job: Job) -> None:
        """Take back what runs when idle."""
        for worker in (self._worker, self._hooks):
            worker.cancel(job)
            self._supervisor.abandon(worker, job)

    async def _wait(self, worker: Worker, job: Job) -> Any:
        try:
            worker.submit(job)
        except QueueFullError:
            raise _too_many() from None
        try:
            return await asyncio.wrap_future(job.future)
        except asyncio.CancelledError:
            worker.cancel(job)
            self._supervisor.abandon(worker, job)
            raise

    def _decode(self, method: Method, body: bytes, headers: Headers, exchange: Exchange) -> tuple[Any, Any]:
        decoded = timed("decode", exchange.seconds, lambda: method.decode(body, headers))
        prepared = timed("preprocess", exchange.seconds, lambda: method.preprocess(decoded))
        items = timed("count", exchange.seconds, lambda: _checked(method.count(prepared)))
        if items > self._limits.items:
            text = f"{items} items, at most {self._limits.items} are taken"
            raise RequestError(text, status=413, code="too_many_items")
        exchange.items = items
        return decoded, prepared

    def _encode(self, method: Method, decoded: Any, results: Any, exchange: Exchange) -> bytes:
        value = timed("postprocess", exchange.seconds, lambda: method.postprocess(decoded, results))
        body = timed("encode", exchange.seconds, lambda: method.encode(value))
        if not isinstance(body, bytes):
            raise StepError("encode", TypeError(f"Expected bytes, got {type(body).__name__}"))
        return body


def _job(call: Callable[[], Any]) -> Job:
    def run(jobs: Sequence[Job]) -> None:
        jobs[0].future.set_result(call())

    return Job(run)


def _checked(items: object) -> int:
    if not isinstance(items, int) or items < 1:
        raise ValueError(f"`count` gave {items!r}, expected a whole number from 1")
    return items


def _too_many() -> RequestError:
    return RequestError("The queue is full", status=429, code="queue_full", headers=(("retry-after", "1"),))
