"""A thread that does one thing at a time, and the bounded queue before it: the model's, and the hooks'.

Jobs are run in the order in which they came; one that may share a run takes others along that would
otherwise wait. A thread cannot be killed, so a run that nobody waits for any more goes on to its end, or
until it looks at `is_cancelled`; what waits behind it waits. Two runs never overlap on one device.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

__all__ = ["Batching", "Job", "QueueFullError", "Worker"]


class QueueFullError(Exception):
    """As many jobs wait as may."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How much is run together."""

    items: int = 1
    """Of all jobs in one run; a job with more runs alone."""
    wait_s: float = 0.0
    """For others to come, counted from when the first was queued. Who came alone last time does not wait again."""


class Job:
    """One piece of work for the model's thread."""

    def __init__(
        self, run: Callable[[Sequence[Job]], Sequence[Job] | None], *, lane: Hashable = None, items: int = 1
    ) -> None:
        self.run = run
        """Takes all jobs of a batch, this one first; settles their futures, or returns those that are to run again."""
        self.lane = lane
        """Jobs with equal lanes may share a run; None runs alone."""
        self.items = items
        self.future: Future[Any] = Future()
        self.queued = time.perf_counter()
        self._cancelled = False

    def is_cancelled(self) -> bool:
        """Whether nobody waits for the result any more."""
        return self._cancelled

    def cancel(self) -> None:
        """Say that nobody waits."""
        self._cancelled = True
        self.future.cancel()

    def begin(self) -> bool:
        """Mark it as running, perhaps again; return whether anybody waits."""
        if self.future.running():
            return True
        return self.future.set_running_or_notify_cancel()


class Worker:
    """Runs jobs, at most one batch of them at a time."""

    def __init__(self, size: int, batching: Batching | None = None, *, name: str = "model") -> None:
        self._size = size
        self._batching = batching or Batching()
        self._urgent: deque[Job] = deque()
        self._waiting: deque[Job] = deque()
        self._idle: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._batches = 0
        self._in_company = True
        self.running: Sequence[Job] = ()
        """What runs now."""
        # A daemon: a call that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._prepare: Callable[[], bool] = lambda: True

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def batches(self) -> int:
        """How many batches were begun; those of idle time are not counted."""
        return self._batches

    def start(self, prepare: Callable[[], bool]) -> None:
        """Start the thread with `prepare`; where that returns False it ends at once."""
        self._prepare = prepare
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Put a job in the queue, or raise QueueFullError."""
        with self._changed:
            if self._closed or len(self._waiting) >= self._size:
                raise QueueFullError
            self._waiting.append(job)
            self._changed.notify()

    def submit_idle(self, job: Job) -> None:
        """Run a job when nothing else waits; raise QueueFullError when the worker has ended."""
        with self._changed:
            if self._closed:
                raise QueueFullError
            self._idle.append(job)
            self._changed.notify()

    def interpose(self, job: Job) -> None:
        """Put a job before all that wait, full or not; before a batch, too, that is not full yet."""
        with self._changed:
            self._urgent.append(job)
            self._changed.notify()

    def wait_closed(self, timeout: float) -> bool:
        """Wait, in a job, for `stop`; return whether it came."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, timeout)

    def cancel(self, job: Job) -> None:
        """Take a job out of the queue; one that runs is only told."""
        job.cancel()
        with self._changed:
            for queue in (self._waiting, self._idle):
                if job in queue:  # else it runs, or is about to
                    queue.remove(job)

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
        while batch := self._next():
            live = [job for job in batch if job.begin()]
            if live:
                self._finish(live)
            # Else the last answers would be held until the next request.
            del batch, live

    def _finish(self, batch: Sequence[Job]) -> None:
        error: BaseException = RuntimeError("The run settled nothing")
        again: Sequence[Job] = ()
        self.running = batch
        try:
            again = batch[0].run(batch) or ()
        except BaseException as raised:
            error = raised
        finally:
            self.running = ()
        with self._changed:
            self._waiting.extendleft(reversed(again))
        for job in batch:
            if not job.future.done() and job not in again:
                job.future.set_exception(error)

    def _next(self) -> list[Job]:
        """Wait for work; nothing when the worker has ended."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._urgent or self._waiting or self._idle or self._closed)
                for queue in (self._urgent, self._waiting):
                    if queue:
                        batch = [queue.popleft()]
                        break
                else:
                    return [] if self._closed or not self._idle else [self._idle.popleft()]
                if queue is self._waiting and batch[0].lane is not None:
                    self._fill(batch)
                    self._in_company = len(batch) > 1
                    if self._urgent:
                        self._waiting.extendleft(reversed(batch))
                        continue
                self._batches += queue is self._waiting
                return batch

    def _fill(self, batch: list[Job]) -> None:
        """Add what fits, and wait for more while there is time."""
        end = batch[0].queued + self._batching.wait_s
        while True:
            room = self._batching.items - sum(job.items for job in batch)
            for job in [job for job in self._waiting if job.lane == batch[0].lane] if room > 0 else []:
                if job.items <= room:
                    self._waiting.remove(job)
                    batch.append(job)
                    room -= job.items
            if len(batch) == 1 and not self._in_company:
                return
            left = end - time.perf_counter()
            if room <= 0 or left <= 0 or self._urgent or self._closed or batch[0].is_cancelled():
                return
            self._changed.wait(left)
