"""The model's life: loaded, lost and loaded again, given up when it hangs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from forge_runtime import log
from forge_runtime.backend import Supervised
from forge_runtime.error import LoadError, StepError
from forge_runtime.exchange import Limits
from forge_runtime.lifecycle import AnyLifecycle
from forge_runtime.metric import Metrics
from forge_runtime.recovery import Recovery
from forge_runtime.state import State, Status
from forge_runtime.step import timed
from forge_runtime.worker import Job, Worker

__all__ = ["Supervisor"]

logger = logging.getLogger(__name__)

GRACE_S = 10.0
"""For the model's thread to come back when the process that it waited for is gone."""


class Supervisor:
    """Watches over one server in the model's thread; `failed` is called when that is of no use any more."""

    def __init__(
        self,
        create: Callable[[], AnyLifecycle],
        worker: Worker,
        status: Status,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self._create = create
        self._worker = worker
        self._status = status
        self._limits = limits
        self._metrics = metrics
        self._recovery: Recovery | None = None
        self._failed: Callable[[], None] = lambda: None
        self.server: AnyLifecycle | None = None
        self.once: dict[str, float] = {}
        """Seconds of `load` and `warm_up`."""

    def prepare(self, loaded: Callable[[AnyLifecycle], None], failed: Callable[[], None]) -> bool:
        """Load and warm up, in the model's thread; return whether it is ready."""
        self._failed = failed
        try:
            self.server = server = self._create()
            self._load()
            loaded(server)
            facts = dict(server.backend.describe())
        except BaseException as error:
            cause = error.__cause__ if isinstance(error, StepError) else error
            reason = str(cause) if isinstance(cause, LoadError) else repr(cause)
            # A LoadError says all; anything else may be a bug, and a bug shows where it is.
            self.give_up(f"The model cannot be loaded: {reason}", None if isinstance(cause, LoadError) else cause)
            return False
        self._status.change(State.READY, while_in=State.LOADING)
        log.event(logger, logging.INFO, "Ready", {**facts, "seconds": self.once})
        if isinstance(server.backend, Supervised):
            began = partial(self._status.change, State.RESTARTING, while_in=State.READY)
            self._recovery = Recovery(self._worker, self._load, began, self._recovered, failed)
            server.backend.watch(self._lost)
        return True

    def give_up(self, reason: str, error: BaseException | None = None) -> None:
        """End the server."""
        log.event(logger, logging.ERROR, reason, error=error)
        self._status.fail()
        self._failed()

    def close(self) -> None:
        """End the backend's process; a call that waits for it ends with it."""
        if self.server is not None and isinstance(self.server.backend, Supervised):
            self.server.backend.close()

    def abandon(self, worker: Worker, job: Job) -> None:
        """See to it that a job ends for which nobody waits, if it has begun."""
        if job in worker.running:
            _later(self._limits.hang_s, self._end_hung, worker, job)

    def _end_hung(self, worker: Worker, job: Job) -> None:
        if not _is_abandoned(worker, job):
            return
        text = f"did not end within {self._limits.hang_s:g} s of being told to"
        if worker is self._worker and self.server is not None and isinstance(self.server.backend, Supervised):
            self.server.backend.kill(f"The backend {text}")
            # Else it hangs in the handler's own code.
            _later(GRACE_S, self._give_up_hung, worker, job)
        else:
            self.give_up(f"A hook {text}")

    def _give_up_hung(self, worker: Worker, job: Job) -> None:
        if _is_abandoned(worker, job):
            self.give_up("The handler's `infer` did not end when its backend was gone")

    def _load(self) -> None:
        server = self.server
        assert server is not None
        limit = _later(self._limits.load_s, self._end_load, server)
        seconds: dict[str, float] = {}
        try:
            timed("load", seconds, server.load)
            timed("warm_up", seconds, server.warm_up)
        finally:
            limit.cancel()
            self.once.update(seconds)
            self._metrics.observe_steps(seconds)

    def _end_load(self, server: AnyLifecycle) -> None:
        if isinstance(server.backend, Supervised):
            server.backend.kill(f"The model was not loaded and warm within {self._limits.load_s:g} s")

    def _lost(self, reason: str) -> None:
        assert self._recovery is not None  # made before anybody watches
        log.event(logger, logging.ERROR, reason)
        self._recovery.begin()

    def _recovered(self, success: bool) -> None:
        if success:
            self._metrics.restarts.inc()
        self._status.change(State.READY if success else State.FAILED, while_in=State.RESTARTING)


def _is_abandoned(worker: Worker, job: Job) -> bool:
    running = worker.running
    return job in running and all(each.is_cancelled() for each in running)


def _later(seconds: float, call: Callable[..., None], *values: object) -> threading.Timer:
    timer = threading.Timer(seconds, call, values)
    timer.daemon = True
    timer.start()
    return timer
