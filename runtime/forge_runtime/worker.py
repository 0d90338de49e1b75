"""The one thread that touches the model, and the bounded queue before it.

A thread cannot be killed, so a job that nobody waits for any more runs to its end, or
until it looks at `cancelled`; what waits behind it waits. Two jobs never overlap on
one device.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

__all__ = ["Job", "QueueFullError", "Worker"]


class QueueFullError(Exception):
    """As many jobs wait as may."""


class Job:
    """One call for the model's thread."""

    def __init__(self, call: Callable[[Job], bytes]) -> None:
        self.call = call
        self.future: Future[bytes] = Future()
        self._cancelled = threading.Event()

    def is_cancelled(self) -> bool:
        """Whether nobody waits for the result any more."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Say that nobody waits."""
        self._cancelled.set()
        self.future.cancel()


class Worker:
    """Runs jobs one after the other, in the order in which they came."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        # A daemon: a call that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._prepare: Callable[[], bool] = lambda: True

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether one more job would be refused."""
        return len(self._waiting) >= self._size

    def start(self, prepare: Callable[[], bool]) -> None:
        """Start the thread with `prepare`; where that returns False it ends at once."""
        self._prepare = prepare
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Put a job in the queue, or raise QueueFullError."""
        with self._changed:
            if self._closed or self.is_full:
                raise QueueFullError
            self._waiting.append(job)
            self._changed.notify()

    def interpose(self, job: Job) -> None:
        """Put a job before all that wait, full or not."""
        with self._changed:
            self._waiting.appendleft(job)
            self._changed.notify()

    def wait_closed(self, timeout: float) -> bool:
        """Wait, in a job, for `stop`; return whether it came."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, timeout)

    def cancel(self, job: Job) -> None:
        """Take a job out of the queue; one that runs is only told."""
        job.cancel()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    def stop(self, timeout: float) -> bool:
        """Take no more jobs; return whether the thread has ended in time."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        if not self._prepare():
            return
        while (job := self._next()) is not None:
            if job.future.set_running_or_notify_cancel():
                self._finish(job)
            # Else the last answer would be held until the next request.
            del job

    def _finish(self, job: Job) -> None:
        try:
            result = job.call(job)
        except BaseException as error:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return self._waiting.popleft() if self._waiting else None
