"""A BaseServer at work: its state, its steps timed, its requests queued."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import TypeVar

from forge_runtime import log
from forge_runtime.backend import Supervised
from forge_runtime.error import LoadError, RequestError, StepError
from forge_runtime.lifecycle import AnyLifecycle
from forge_runtime.metric import Metrics
from forge_runtime.recovery import Recovery
from forge_runtime.request import Awaited
from forge_runtime.worker import Job, QueueFullError, Worker

__all__ = ["Answer", "Engine", "State"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class State(Enum):
    """Where a server is between start and end."""

    LOADING = "loading"  # the port is open, the model is not there yet
    READY = "ready"
    RESTARTING = "restarting"  # the backend was lost, and is started again
    FAILED = "failed"  # the model cannot be loaded; the process ends
    DRAINING = "draining"  # told to stop; takes no more requests


@dataclass(slots=True)
class Answer:
    """One response, and how long each step of it took."""

    body: bytes = b""
    media_type: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


class Engine:
    """Loads one server in the model's thread, then answers requests through it."""

    def __init__(self, create: Callable[[], AnyLifecycle], queue_size: int, metrics: Metrics) -> None:
        self._create = create
        self._metrics = metrics
        self._server: AnyLifecycle | None = None
        self._recovery: Recovery | None = None
        self._worker = Worker(queue_size)
        self._decoder = ThreadPoolExecutor(1, "decode")
        self._state = State.LOADING
        self._lock = threading.Lock()
        metrics.ready.set_function(lambda: float(self._state is State.READY))
        metrics.queued.set_function(lambda: float(len(self._worker)))

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    def start(self, on_failure: Callable[[], None]) -> None:
        """Load and warm up in the background; call `on_failure`, from there, if that raises."""
        self._worker.start(partial(self._prepare, on_failure))

    def drain(self) -> None:
        """Take no more requests."""
        with self._lock:
            self._state = State.DRAINING

    def stop(self, timeout: float) -> bool:
        """End the model's thread; return whether it has ended in time."""
        self._decoder.shutdown(wait=False, cancel_futures=True)
        ended = self._worker.stop(timeout)
        if self._server is not None and isinstance(self._server.backend, Supervised):
            self._server.backend.close()  # a call that waits for its process ends with it
            ended = self._worker.stop(timeout)
        return ended

    def admit(self) -> None:
        """Raise RequestError where a request would not be taken now."""
        if self._state is not State.READY:
            state = self._state.value
            raise RequestError(
                f"The server is {state}", status=503, code=state, headers=(("retry-after", "5"),)
            )
        if self._worker.is_full:
            raise _too_many()

    async def answer(self, body: bytes, content_type: str, answer: Answer) -> None:
        """Take one request through all steps; cancel this, and its job is told."""
        self.admit()
        server = self._server
        assert server is not None  # READY says so
        answer.media_type = server.media_type
        decode = partial(self._timed, "decode", answer, lambda: server.decode(body, content_type))
        request = await asyncio.get_running_loop().run_in_executor(self._decoder, decode)
        job = Job(partial(self._run, server, request, answer, time.perf_counter()))
        try:
            self._worker.submit(job)
        except QueueFullError:
            raise _too_many() from None
        try:
            answer.body = await asyncio.wrap_future(job.future)
        except asyncio.CancelledError:
            self._worker.cancel(job)
            raise

    def _prepare(self, on_failure: Callable[[], None]) -> bool:
        steps = Answer()
        try:
            server = self._create()
            self._load(server, steps)
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
        log.event(logger, logging.INFO, "Ready", {**facts, "seconds": steps.seconds})
        if isinstance(server.backend, Supervised):
            self._recovery = Recovery(self._worker, partial(self._load, server, steps), self._recovered, on_failure)
            server.backend.watch(self._lost)
        return True

    def _load(self, server: AnyLifecycle, steps: Answer) -> None:
        self._timed("load", steps, server.load)
        self._timed("warm_up", steps, server.warm_up)

    def _lost(self, reason: str) -> None:
        assert self._recovery is not None  # made before anybody watches
        log.event(logger, logging.ERROR, reason)
        self._change(State.RESTARTING, while_in=State.READY)
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

    def _run(
        self, server: AnyLifecycle, request: object, answer: Answer, queued: float, job: Job
    ) -> bytes:
        self._record("queue", answer, queued)
        if isinstance(request, Awaited):  # a handler's own type has no use for it
            request = replace(request, cancelled=job.is_cancelled)
        prepared = self._timed("preprocess", answer, lambda: server.preprocess(request))
        results = self._timed("infer", answer, lambda: server.infer(prepared))
        if isinstance(results, (list, tuple)):
            self._metrics.count_tokens(results)
        if job.is_cancelled():
            return b""
        value = self._timed("postprocess", answer, lambda: server.postprocess(request, results))
        body = self._timed("encode", answer, lambda: server.encode(value))
        if not isinstance(body, bytes):
            raise StepError("encode", TypeError(f"Expected bytes, got {type(body).__name__}"))
        return body

    def _timed(self, step: str, answer: Answer, call: Callable[[], Result]) -> Result:
        started = time.perf_counter()
        try:
            return call()
        except RequestError:
            raise
        except BaseException as error:
            raise StepError(step, error) from error
        finally:
            self._record(step, answer, started)

    def _record(self, step: str, answer: Answer, started: float) -> None:
        seconds = time.perf_counter() - started
        answer.seconds[step] = round(seconds, 6)
        self._metrics.steps.labels(step).observe(seconds)


def _too_many() -> RequestError:
    return RequestError(
        "The queue is full", status=429, code="queue_full", headers=(("retry-after", "1"),)
    )
