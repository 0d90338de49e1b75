"""The process of a backend: answers the calls that `isolated.py` sends it.

python3 -m forge_runtime.backend_process DESCRIPTOR MODULE
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import pickle
import select
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

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
    """The child's end of the socket; the Progress of the call that runs.

    Calls are read by the thread that does them, and cancellations when it asks for them: another thread between would
    have to be woken for each call.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._number = 0
        self._cancelled: set[int] = set()
        self._lock = threading.Lock()
        self._readable = select.poll()
        self._readable.register(connection.fileno(), select.POLLIN)
        threading.Thread(target=self._follow, daemon=True).start()

    def next(self) -> Sequence[Any]:
        """Wait for a call; return its name and values."""
        self._cancelled.clear()
        while True:
            number, name, *values = self._receive()
            if name != "cancel":  # else of a call that has ended
                self._number = number
                return [name, *values]

    def send(self, *message: object) -> None:
        self._connection.send_bytes(pickle.dumps((self._number, *message), pickle.HIGHEST_PROTOCOL))

    def cancelled(self, index: int) -> bool:
        with self._lock:  # a backend may have threads
            while self._readable.poll(0):
                _, _, indices = self._receive()
                self._cancelled.update(indices)
        return index in self._cancelled

    def emit(self, index: int, text: str) -> None:
        self.send("emit", index, text)

    def _receive(self) -> Sequence[Any]:
        try:
            message: Sequence[Any] = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            _end_all()
        except Exception as error:
            log.event(logger, logging.ERROR, f"A call cannot be read: {error!r}", error=error)
            os._exit(1)
        return message

    def _follow(self) -> None:
        """Wait for the server's end: a call of the library cannot be interrupted."""
        hung_up = select.poll()
        hung_up.register(self._connection.fileno(), select.POLLRDHUP)
        hung_up.poll()
        _end_all()


def _end_all() -> NoReturn:
    """The server is gone. What this process has started goes, too."""
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
