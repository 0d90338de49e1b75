"""A BaseServer at work: its state, its steps timed, its requests queued."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import TypeVar

from forge_runtime import log
from forge_runtime.error import LoadError, RequestError, StepError
from forge_runtime.metric import Metrics
from forge_runtime.request import Request
from forge_runtime.server import BaseServer
from forge_runtime.worker import Job, QueueFullError, Worker

__all__ = ["Answer", "Engine", "State"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class State(Enum):
    """Where a server is between start and end."""

    LOADING = "loading"  # the port is open, the model is not there yet
    READY = "ready"
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

    def __init__(self, create: Callable[[], BaseServer], queue_size: int, metrics: Metrics) -> None:
        self._create = create
        self._metrics = metrics
        self._server: BaseServer | None = None
        self._worker = Worker(queue_size)
        self._decoder = ThreadPoolExecutor(1, "decode")
        self._state = State.LOADING
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
        self._state = State.DRAINING

    def stop(self, timeout: float) -> bool:
        """End the model's thread; return whether it has ended in time."""
        self._decoder.shutdown(wait=False, cancel_futures=True)
        return self._worker.stop(timeout)

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
            self._timed("load", steps, server.load)
            self._timed("warm_up", steps, server.warm_up)
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
        if self._state is State.LOADING:
            self._state = State.READY
        log.event(logger, logging.INFO, "Ready", {**facts, "seconds": steps.seconds})
        return True

    def _run(
        self, server: BaseServer, request: Request, answer: Answer, queued: float, job: Job
    ) -> bytes:
        self._record("queue", answer, queued)
        if isinstance(request, Request):  # a handler's own type has no use for it
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
