"""The process of a backend: answers the calls that `isolated.py` sends it.

python3 -m forge_runtime.backend_process DESCRIPTOR MODULE
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from forge_runtime import log
from forge_runtime.backend import Backend
from forge_runtime.error import LoadError, RequestError

logger = logging.getLogger(__name__)

FIRST_TO_GO = "1000"
"""Where memory runs out, the kernel ends the model's process and not the server's."""
BROKEN = ("CUDA error", "AcceleratorError", "EngineDeadError")
"""What stands in errors after which a device or an engine is of no use to its process any more."""


def main(argv: Sequence[str]) -> None:
    """Serve one backend to the process that holds the other end."""
    log.configure()
    # The server drains on these; it ends this process by closing the socket.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    os.set_inheritable(int(argv[0]), False)
    server = _Server(Connection(int(argv[0])))
    backend: Backend | None = None
    while True:
        name, *values = server.next()
        broken = False
        try:
            if backend is None:
                backend = importlib.import_module(argv[1]).create()
            if name == "generate":
                values.append(server)
            answer = ("done", getattr(backend, name)(*values))
        except RequestError as error:
            answer = ("refused", error)
        except LoadError as error:
            answer = ("unloadable", str(error))
        except Exception as error:
            log.event(logger, logging.ERROR, f"Backend failed: {error!r}", error=error)
            answer = ("failed", f"{type(error).__name__}: {error}")
            broken = is_broken(error)
        server.send(*answer)
        if broken:
            # Every later call would fail as this one has; in another process they may not.
            os._exit(1)


def is_broken(error: BaseException) -> bool:
    """Say whether an error is of those that a process does not get over: CUDA's, and an engine's end."""
    text = f"{type(error).__name__}: {error}"
    return any(sign in text for sign in BROKEN)


class _Server:
    """The child's end of the socket; the Progress of the call that runs."""

    def __init__(self, connection: Connection) -> None:
        self._calls: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._connection = connection
        self._number = 0
        self._cancelled: set[tuple[int, int]] = set()
        threading.Thread(target=self._receive, daemon=True).start()

    def next(self) -> Sequence[Any]:
        """Wait for a call; return its name and values."""
        self._number, *call = self._calls.get()
        # What is cancelled after its call has ended is of no later one.
        self._cancelled = {each for each in list(self._cancelled) if each[0] >= self._number}
        return call

    def send(self, *message: object) -> None:
        self._connection.send((self._number, *message))

    def cancelled(self, index: int) -> bool:
        return (self._number, index) in self._cancelled

    def emit(self, index: int, text: str) -> None:
        self.send("emit", index, text)

    def _receive(self) -> None:
        while True:
            try:
                number, name, *values = self._connection.recv()
            except (EOFError, OSError):
                # The server is gone; a call of the library cannot be interrupted. What it has started goes, too.
                os.killpg(0, signal.SIGKILL)
            except Exception as error:
                log.event(logger, logging.ERROR, f"A call cannot be read: {error!r}", error=error)
                os._exit(1)
            if name == "cancel":
                self._cancelled.add((number, values[0]))
            else:
                self._calls.put((number, name, *values))


if __name__ == "__main__":
    main(sys.argv[1:])
