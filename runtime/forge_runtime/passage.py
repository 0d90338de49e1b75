"""The way of one request through the threads: each hands it to the next, and the event loop hears of its end only.

To go back to the event loop after each step would wake it twice for nothing; on a machine that was idle each waking
costs a tenth of a millisecond and more.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

from forge_runtime.worker import Job, Worker

__all__ = ["Passage"]


class Passage(asyncio.Future[Any]):
    """What comes of it all; to cancel it takes back what waits, and tells what runs."""

    def __init__(self, withdraw: Callable[[Worker, Job], None]) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._withdraw = withdraw
        self._lock = threading.Lock()
        self._left = False
        self._at: tuple[Worker, Job] | None = None

    def go(self, worker: Worker, job: Job, then: Callable[[Any], None]) -> None:
        """Queue a job, or raise QueueFullError; `then` takes its result in the thread that it was made in."""
        with self._lock:
            if self._left:
                return
            self._at = worker, job
        job.future.add_done_callback(lambda future: self._advance(future, then))
        worker.submit(job)
        if self._left:  # it was cancelled before it stood in the queue
            self._withdraw(worker, job)

    def arrive(self, result: object) -> None:
        """End with a result; from any thread."""
        self._tell(self._settle, result, None)

    def cancel(self, msg: Any | None = None) -> bool:
        """End it where it is."""
        cancelled = super().cancel(msg)
        if cancelled:
            with self._lock:
                self._left = True
                at = self._at
            if at is not None:
                self._withdraw(*at)
        return cancelled

    def _advance(self, future: Any, then: Callable[[Any], None]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            try:
                then(future.result())
            except BaseException as raised:
                error = raised
        if error is not None:
            self._tell(self._settle, None, error)

    def _tell(self, call: Callable[..., None], *values: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self.get_loop().call_soon_threadsafe(call, *values)

    def _settle(self, result: object, error: BaseException | None) -> None:
        if self.done():
            return
        if error is None:
            self.set_result(result)
        else:
            self.set_exception(error)
