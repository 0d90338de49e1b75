"""Where a server is between start and end."""

from __future__ import annotations

import threading
from enum import Enum

__all__ = ["State", "Status"]


class State(Enum):
    """What a server says of itself."""

    LOADING = "loading"  # the port is open, the model is not there yet
    READY = "ready"
    RESTARTING = "restarting"  # the backend was lost, and is started again
    FAILED = "failed"  # the model cannot be loaded, or hangs for good; the process ends
    DRAINING = "draining"  # told to stop; takes no more requests


class Status:
    """The state, changed from several threads; what has failed or drains does neither any less."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.state = State.LOADING

    def change(self, state: State, *, while_in: State) -> None:
        """Change it, unless another thread has meanwhile."""
        with self._lock:
            if self.state is while_in:
                self.state = state

    def drain(self) -> None:
        """Take no more requests."""
        with self._lock:
            if self.state is not State.FAILED:
                self.state = State.DRAINING

    def fail(self) -> None:
        """Serve no more."""
        with self._lock:
            self.state = State.FAILED
