"""A Lifecycle at work: its requests prepared, queued, run and finished."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from forge_runtime.batch import BatchRunner
from forge_runtime.error import RequestError, StepError
from forge_runtime.exchange import Exchange, Limits
from forge_runtime.lifecycle import AnyLifecycle
from forge_runtime.method import Emit, Headers, Method, Run
from forge_runtime.metric import Metrics
from forge_runtime.passage import Passage
from forge_runtime.state import State, Status
from forge_runtime.step import timed
from forge_runtime.supervisor import Supervisor
from forge_runtime.worker import Batching, Job, QueueFullError, Worker

__all__ = ["Engine", "State"]

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

    def answer(self, method: Method, body: bytes, headers: Headers, exchange: Exchange) -> asyncio.Future[bytes]:
        """Take one request through all steps; cancel what is returned, and it is told."""
        self._admit_visit()
        passage = self._passage()

        def run(found: tuple[Any, Any]) -> None:
            decoded, prepared = found
            self._go_on(passage, method, decoded, prepared, exchange)

        self._enter(passage, self._hooks, _job(lambda: self._decode(method, body, headers, exchange)), run)
        return passage

    def prepare(
        self, method: Method, body: bytes, headers: Headers, exchange: Exchange
    ) -> asyncio.Future[tuple[Any, Any]]:
        """Decode and preprocess what was admitted; the result is what each gave."""
        self._admit_visit()
        passage = self._passage()
        job = _job(lambda: self._decode(method, body, headers, exchange))
        self._enter(passage, self._hooks, job, passage.arrive)
        return passage

    def run(self, method: Method, prepared: Any, exchange: Exchange, emit: Emit | None = None) -> asyncio.Future[Any]:
        """Queue what is prepared and run it, alone or with others."""
        passage = self._passage()
        self._enter(passage, self._worker, self._run(method, prepared, exchange, emit), passage.arrive)
        return passage

    def finish(self, method: Method, decoded: Any, prepared: Any, exchange: Exchange) -> asyncio.Future[bytes]:
        """Run what is prepared, postprocess and encode."""
        passage = self._passage()
        self._go_on(passage, method, decoded, prepared, exchange)
        return passage

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
            self._withdraw(worker, job)

    def _admit_visit(self) -> None:
        if self.state is not State.DRAINING:  # its headers came before that: it is served
            self.admit()

    def _passage(self) -> Passage:
        return Passage(self._withdraw)

    def _run(self, method: Method, prepared: Any, exchange: Exchange, emit: Emit | None = None) -> Run:
        return Run(self._batches.run, method, prepared, exchange, emit)

    def _go_on(self, passage: Passage, method: Method, decoded: Any, prepared: Any, exchange: Exchange) -> None:
        def finish(results: Any) -> None:
            job = _job(lambda: self._encode(method, decoded, results, exchange))
            self._enter(passage, self._hooks, job, passage.arrive)

        self._enter(passage, self._worker, self._run(method, prepared, exchange), finish)

    def _enter(self, passage: Passage, worker: Worker, job: Job, then: Callable[[Any], None]) -> None:
        try:
            passage.go(worker, job, then)
        except QueueFullError:
            raise _too_many() from None

    def _withdraw(self, worker: Worker, job: Job) -> None:
        worker.cancel(job)
        self._supervisor.abandon(worker, job)

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
        if self.sample is None and exchange.items <= MAX_SAMPLE:
            self.sample = (method, decoded, results)
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
