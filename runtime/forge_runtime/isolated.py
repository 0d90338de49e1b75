"""A text backend in a process of its own, so that its crash is one failed request and not the server's end.

The two ends exchange pickled tuples over a socket pair that nobody else holds. A call is answered by
("done", value), ("refused", RequestError), ("unloadable", text) or ("failed", text); while it runs, the
parent may send ("cancel",). The child ends when the socket does, so it never outlives the server.

    python3 -m forge_runtime.isolated DESCRIPTOR MODULE
"""

from __future__ import annotations

import importlib
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from forge_runtime import log
from forge_runtime.backend import Generation, TextBackend
from forge_runtime.config import ModelConfig, Params
from forge_runtime.error import BackendLost, LoadError, RequestError, ServingError
from forge_runtime.request import Sampling

__all__ = ["IsolatedBackend"]

logger = logging.getLogger(__name__)

POLL_S = 0.01
END_S = 5.0


class IsolatedBackend:
    """Stands in for a backend whose module runs elsewhere."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._child: _Child | None = None
        self._lost: Callable[[str], None] = lambda reason: None

    def load(self, model: ModelConfig, params: Params) -> None:
        """Start a process, in place of one that is gone, and load the model there."""
        self.close()
        child = _Child(self._module)
        try:
            child.call("load", model, params)
        except BackendLost as error:
            raise LoadError(f"{model.path}: {error}") from error
        except BaseException:
            child.end()
            raise
        self._child = child
        child.watch(self._lost)

    def describe(self) -> Mapping[str, str | int]:
        """Say what the backend says, and where it runs."""
        facts: Mapping[str, str | int] = self._loaded().call("describe")
        return {**facts, "backend_pid": self.pid}

    @property
    def pid(self) -> int:
        """The process that holds the model."""
        return self._loaded().process.pid

    def generate(
        self, prompts: Sequence[str], sampling: Sampling, cancelled: Callable[[], bool]
    ) -> Sequence[Generation]:
        """Continue each prompt there; raise BackendLost where that ended the process."""
        results: Sequence[Generation] = self._loaded().call(
            "generate", tuple(prompts), sampling, cancelled=cancelled
        )
        return results

    def watch(self, lost: Callable[[str], None]) -> None:
        """Call `lost` when a process with a loaded model ends on its own."""
        self._lost = lost
        if self._child is not None:
            self._child.watch(lost)

    def close(self) -> None:
        """End the process."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def _loaded(self) -> _Child:
        if self._child is None:
            raise BackendLost("The backend has no process")
        return self._child


class _Child:
    """The process, and this end of its socket."""

    def __init__(self, module: str) -> None:
        ours, theirs = socket.socketpair()
        argv = [sys.executable, "-m", "forge_runtime.isolated", str(theirs.fileno()), module]
        # Same modules as here; the rest of the environment acts there as it would have here.
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with theirs:
            self.process = subprocess.Popen(
                argv,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
            )
        self._connection = Connection(ours.detach())
        self._lost: Callable[[str], None] | None = None
        self._ended = threading.Event()
        self._expected = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._follow, name="backend log", daemon=True)
        self._thread.start()

    def call(self, *message: object, cancelled: Callable[[], bool] = lambda: False) -> Any:
        """Send a call, wait for its answer."""
        told = False
        try:
            self._connection.send(message)
            while not self._connection.poll(POLL_S):
                if not told and cancelled():
                    self._connection.send(("cancel",))
                    told = True
            kind, value = self._connection.recv()
        except (EOFError, OSError):
            # Its end is reported before this call's is: no later call may run before the restart.
            self._thread.join()
            raise BackendLost(self._reason()) from None
        if kind == "refused":
            raise value
        if kind == "unloadable":
            raise LoadError(value)
        if kind == "failed":
            raise ServingError(value)
        return value

    def watch(self, lost: Callable[[str], None]) -> None:
        """Call `lost` when the process ends, or now if it has."""
        with self._lock:
            self._lost = lost
            gone = self._ended.is_set() and not self._expected
        if gone:
            lost(self._reason())

    def end(self) -> None:
        """End the process, by force where it does not."""
        self._expected = True
        self._connection.close()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._thread.join(END_S)

    def _follow(self) -> None:
        """Log what the process says, line by line, until it ends."""
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                if text:
                    log.relay(logger, text)
        self.process.wait()
        with self._lock:
            self._ended.set()
            lost = None if self._expected else self._lost
        if lost is not None:
            lost(self._reason())

    def _reason(self) -> str:
        code = self.process.returncode
        if code is not None and code < 0:
            return f"The backend's process was ended by {signal.Signals(-code).name}"
        return f"The backend's process ended with status {code}"


def main(argv: Sequence[str]) -> None:
    """Serve one backend to the process that holds the other end."""
    log.configure()
    # The server drains on these; it ends this process by closing the socket.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    connection = Connection(int(argv[0]))
    calls: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
    cancelled = threading.Event()
    threading.Thread(target=_receive, args=(connection, calls, cancelled), daemon=True).start()
    backend: TextBackend | None = None
    while True:
        name, *values = calls.get()
        try:
            if backend is None:
                backend = importlib.import_module(argv[1]).create()
            if name == "generate":
                values.append(cancelled.is_set)
            answer = ("done", getattr(backend, name)(*values))
        except RequestError as error:
            answer = ("refused", error)
        except LoadError as error:
            answer = ("unloadable", str(error))
        except Exception as error:
            log.event(logger, logging.ERROR, f"Backend failed: {error!r}", error=error)
            answer = ("failed", f"{type(error).__name__}: {error}")
        connection.send(answer)


def _receive(
    connection: Connection, calls: queue.SimpleQueue[tuple[Any, ...]], cancelled: threading.Event
) -> None:
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            # The server is gone; a call of the library cannot be interrupted.
            os._exit(0)
        if message == ("cancel",):
            cancelled.set()
        else:
            cancelled.clear()
            calls.put(message)


if __name__ == "__main__":
    main(sys.argv[1:])
