"""A Lifecycle at work: its state, its steps timed, its requests queued."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from forge_runtime import log
from forge_runtime.backend import Generation, Supervised
from forge_runtime.error import BackendLost, LoadError, RequestError, StepError
from forge_runtime.exchange import Exchange, Limits
from forge_runtime.lifecycle import AnyLifecycle
from forge_runtime.method import Emit, Headers, Method, Run
from forge_runtime.metric import Metrics
from forge_runtime.recovery import Recovery
from forge_runtime.step import StepClock
from forge_runtime.worker import Batching, Job, QueueFullError, Worker

__all__ = ["Engine", "State"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Sample = tuple[Method, Any, Any]

MAX_SAMPLE = 32
"""Items; it is kept."""


class State(Enum):
    """Where a server is between start and end."""

    LOADING = "loading"  # the port is open, the model is not there yet
    READY = "ready"
    RESTARTING = "restarting"  # the backend was lost, and is started again
    FAILED = "failed"  # the model cannot be loaded; the process ends
    DRAINING = "draining"  # told to stop; takes no more requests


class Engine:
    """Loads one server in the model's thread, then takes requests through it."""

    def __init__(
        self, create: Callable[[], AnyLifecycle], metrics: Metrics, limits: Limits, batching: Batching
    ) -> None:
        self._create = create
        self._metrics = metrics
        self._clock = StepClock(metrics)
        self._limits = limits
        self._server: AnyLifecycle | None = None
        self._recovery: Recovery | None = None
        self._worker = Worker(limits.queue, batching)
        self._hooks = ThreadPoolExecutor(1, "hooks")
        self._entering = 0
        self._running: Sequence[Job] = ()
        self._state = State.LOADING
        self._lock = threading.Lock()
        self.once: dict[str, float] = {}
        """Seconds of `load` and `warm_up`."""
        self.sample: Sample | None = None
        """The first request that was answered: what it was decoded to, and its results."""
        metrics.ready.set_function(lambda: float(self._state is State.READY))
        metrics.queued.set_function(lambda: float(self.waiting))

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    @property
    def waiting(self) -> int:
        """Requests that wait for the model, or are about to."""
        return len(self._worker) + self._entering

    @property
    def batches(self) -> int:
        """Batches that were begun."""
        return self._worker.batches

    def start(self, loaded: Callable[[AnyLifecycle], None], on_failure: Callable[[], None]) -> None:
        """Load and warm up in the background; call `loaded` there, or `on_failure` if that raises."""
        self._worker.start(partial(self._prepare, loaded, on_failure))

    def drain(self) -> None:
        """Take no more requests."""
        with self._lock:
            self._state = State.DRAINING

    def stop(self, timeout: float) -> bool:
        """End the model's thread; return whether it has ended in time."""
        self._hooks.shutdown(wait=False, cancel_futures=True)
        ended = self._worker.stop(timeout)
        if self._server is not None and isinstance(self._server.backend, Supervised):
            self._server.backend.close()  # a call that waits for its process ends with it
            ended = self._worker.stop(timeout)
        return ended

    def admit(self) -> None:
        """Raise RequestError where a request would not be taken now."""
        if self._state is not State.READY:
            state = self._state.value
            raise RequestError(f"The server is {state}", status=503, code=state, headers=(("retry-after", "5"),))
        if self.waiting >= self._limits.queue:
            raise _too_many()

    async def answer(self, method: Method, body: bytes, headers: Headers, exchange: Exchange) -> bytes:
        """Take one request through all steps."""
        decoded, prepared = await self.prepare(method, body, headers, exchange)
        results = await self.run(method, prepared, exchange)
        return await self.finish(method, decoded, results, exchange)

    async def prepare(self, method: Method, body: bytes, headers: Headers, exchange: Exchange) -> tuple[Any, Any]:
        """Decode and preprocess; return what each gave."""
        self.admit()
        self._entering += 1
        try:
            decoded, prepared = await self.in_hooks(partial(self._decode, method, body, headers, exchange))
        finally:
            self._entering -= 1
        exchange.items = method.count(prepared)
        if exchange.items > self._limits.items:
            raise RequestError(
                f"{exchange.items} items, at most {self._limits.items} are taken", status=413, code="too_many_items"
            )
        return decoded, prepared

    async def run(self, method: Method, prepared: Any, exchange: Exchange, emit: Emit | None = None) -> Any:
        """Queue what is prepared and run it, alone or with others; cancel this, and it is told."""
        job = Run(self._infer, method, prepared, exchange, emit)
        try:
            self._worker.submit(job)
        except QueueFullError:
            raise _too_many() from None
        try:
            return await asyncio.wrap_future(job.future)
        except asyncio.CancelledError:
            self._worker.cancel(job)
            asyncio.get_running_loop().call_later(self._limits.hang_s, self._end_hung, job)
            raise

    async def finish(self, method: Method, decoded: Any, results: Any, exchange: Exchange) -> bytes:
        """Postprocess and encode."""
        body = await self.in_hooks(partial(self._encode, method, decoded, results, exchange))
        if self.sample is None and exchange.items <= MAX_SAMPLE:
            self.sample = (method, decoded, results)
        return body

    async def in_hooks(self, call: Callable[[], Result]) -> Result:
        """Run something in the thread of the hooks."""
        return await asyncio.wrap_future(self._hooks.submit(call))

    def submit_hook(self, call: Callable[[], Any]) -> Future[Any]:
        """Run something in the thread of the hooks; from any thread, RuntimeError when it has ended."""
        return self._hooks.submit(call)

    def when_idle(self, call: Callable[[Callable[[], bool]], Any]) -> Job:
        """Run something in the model's thread when no request waits; it is told when one does."""

        def run(jobs: Sequence[Job]) -> None:
            jobs[0].future.set_result(call(lambda: len(self._worker) > 0))

        job = Job(run)
        self._worker.submit_idle(job)
        return job

    def withdraw(self, job: Job) -> None:
        """Take back what runs when idle."""
        self._worker.cancel(job)

    def _prepare(self, loaded: Callable[[AnyLifecycle], None], on_failure: Callable[[], None]) -> bool:
        try:
            server = self._create()
            self._load(server)
            loaded(server)
            facts = dict(server.backend.describe())
        except BaseException as error:
            self._state = State.FAILED
            cause = error.__cause__ if isinstance(error, StepError) else error
            reason = str(cause) if isinstance(cause, LoadError) else repr(cause)
            # A LoadError says all; anything else may be a bug, and a bug shows where it is.
            trace = None if isinstance(cause, LoadError) else cause
            log.event(logger, logging.ERROR, f"The model cannot be loaded: {reason}", error=trace)
            on_failure()
            return False
        self._server = server
        self._change(State.READY, while_in=State.LOADING)
        log.event(logger, logging.INFO, "Ready", {**facts, "seconds": self.once})
        if isinstance(server.backend, Supervised):
            load = partial(self._load, server)
            began = partial(self._change, State.RESTARTING, while_in=State.READY)
            self._recovery = Recovery(self._worker, load, began, self._recovered, on_failure)
            server.backend.watch(self._lost)
        return True

    def _load(self, server: AnyLifecycle) -> None:
        self._clock.timed("load", self.once, server.load)
        self._clock.timed("warm_up", self.once, server.warm_up)

    def _lost(self, reason: str) -> None:
        assert self._recovery is not None  # made before anybody watches
        log.event(logger, logging.ERROR, reason)
        self._recovery.begin()

    def _recovered(self, success: bool) -> None:
        if success:
            self._metrics.restarts.inc()
        self._change(State.READY if success else State.FAILED, while_in=State.RESTARTING)

    def _change(self, state: State, *, while_in: State) -> None:
        # Another thread may have begun to drain: that is never undone.
        with self._lock:
            if self._state is while_in:
                self._state = state

    def _decode(self, method: Method, body: bytes, headers: Headers, exchange: Exchange) -> tuple[Any, Any]:
        decoded = self._clock.timed("decode", exchange.seconds, lambda: method.decode(body, headers))
        return decoded, self._clock.timed("preprocess", exchange.seconds, lambda: method.preprocess(decoded))

    def _infer(self, jobs: Sequence[Run]) -> None:
        """Run a batch in the model's thread, and settle its jobs."""
        items = sum(job.items for job in jobs)
        self._metrics.batches.observe(items)
        for job in jobs:
            job.exchange.batch_size = items
            self._clock.record("queue", job.exchange.seconds, job.queued)
        self._running = jobs
        started = time.perf_counter()
        try:
            outcomes = self._outcomes(jobs)
        finally:
            self._running = ()
            for job in jobs:
                self._clock.record("infer", job.exchange.seconds, started)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                job.future.set_exception(outcome)
            else:
                self._count_tokens(job.exchange, outcome)
                job.future.set_result(outcome)

    def _outcomes(self, jobs: Sequence[Run]) -> Sequence[Any]:
        try:
            outcomes = jobs[0].infer([job.asked for job in jobs])
        except RequestError as error:
            return [error] * len(jobs)
        except BaseException as error:
            if len(jobs) == 1 or isinstance(error, BackendLost):
                raise StepError("infer", error) from error
            # One of them may be to blame: the others must not fail for it.
            return [self._alone(job) for job in jobs]
        if len(outcomes) != len(jobs):
            raise StepError("infer", ValueError(f"{len(jobs)} requests, but {len(outcomes)} outcomes"))
        return outcomes

    def _alone(self, job: Run) -> Any:
        if job.exchange.first_token_s is not None:
            return StepError("infer", RuntimeError("A batch failed when this request's text had begun"))
        try:
            return self._outcomes([job])[0]
        except StepError as error:
            return error

    def _encode(self, method: Method, decoded: Any, results: Any, exchange: Exchange) -> bytes:
        value = self._clock.timed("postprocess", exchange.seconds, lambda: method.postprocess(decoded, results))
        body = self._clock.timed("encode", exchange.seconds, lambda: method.encode(value))
        if not isinstance(body, bytes):
            raise StepError("encode", TypeError(f"Expected bytes, got {type(body).__name__}"))
        return body

    def _count_tokens(self, exchange: Exchange, results: Any) -> None:
        texts = [each for each in results if isinstance(each, Generation)] if isinstance(results, (list, tuple)) else []
        if texts:
            exchange.prompt_tokens = sum(each.prompt_tokens for each in texts)
            exchange.generated_tokens = sum(each.generated_tokens for each in texts)
            self._metrics.prompt_tokens.inc(exchange.prompt_tokens)
            self._metrics.generated_tokens.inc(exchange.generated_tokens)

    def _end_hung(self, job: Job) -> None:
        """End the process of a run that goes on though nobody waits for it."""
        running = self._running
        backend = self._server.backend if self._server is not None else None
        if job in running and all(each.is_cancelled() for each in running) and isinstance(backend, Supervised):
            backend.kill(f"The backend did not end within {self._limits.hang_s:g} s of being told to")


def _too_many() -> RequestError:
    return RequestError("The queue is full", status=429, code="queue_full", headers=(("retry-after", "1"),))
