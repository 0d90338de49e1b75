"""A backend in a process of its own, so that its crash is one failed request and not the server's end.

The two ends exchange pickled tuples over a socket pair that nobody else holds; each begins with the number of its
call. A call is answered by ("done", value), ("refused", RequestError), ("unloadable", text) or ("failed", text); while
it runs, the child may send ("emit", index, text) and the parent ("cancel", indices). The child ends when the
socket does, with all that it has started, so it never outlives the server. The other end is `backend_process.py`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from forge_runtime import log
from forge_runtime.backend import Outcome, Progress, Prompt, TensorSpec
from forge_runtime.config import ModelConfig, Params
from forge_runtime.error import BackendLost, LoadError, ServingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["IsolatedBackend", "IsolatedTensors", "IsolatedText"]

logger = logging.getLogger(__name__)

POLL_S = 0.01
END_S = 5.0
LONGEST_LINE = 64 * 1024
SECRETS = ("FORGE_ADMIN_TOKEN", "REDIS_PASSWORD")
"""Not the model's business."""


class IsolatedBackend:
    """Stands in for a backend whose module runs elsewhere."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._child: _Child | None = None
        self._lost: Callable[[str], None] = lambda reason: None

    def load(self, model: ModelConfig, params: Params) -> None:
        """Start a process, in place of one that is gone, and load the model there."""
        self.close()
        self._child = child = _Child(self._module)
        try:
            child.call("load", model, params)
        except BaseException as error:
            self.close()
            if isinstance(error, BackendLost):
                raise LoadError(f"{model.path}: {error}") from error
            raise
        child.watch(self._lost)

    def describe(self) -> Mapping[str, str | int]:
        """Say what the backend says, and where it runs."""
        facts: Mapping[str, str | int] = self._loaded().call("describe")
        return {**facts, "backend_pid": self.pid}

    @property
    def pid(self) -> int:
        """The process that holds the model."""
        return self._loaded().process.pid

    def watch(self, lost: Callable[[str], None]) -> None:
        """Call `lost` when a process with a loaded model ends on its own."""
        self._lost = lost
        if self._child is not None:
            self._child.watch(lost)

    def kill(self, reason: str) -> None:
        """End the process as if it had ended on its own."""
        child = self._child
        if child is not None:
            child.kill(reason)

    def close(self) -> None:
        """End the process."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def _loaded(self) -> _Child:
        if self._child is None:
            raise BackendLost("The backend has no process")
        return self._child


class IsolatedText(IsolatedBackend):
    """Stands in for a TextBackend."""

    def generate(self, prompts: Sequence[Prompt], progress: Progress) -> Sequence[Outcome]:
        """Continue each prompt there; raise BackendLost where that ended the process."""
        outcomes: Sequence[Outcome] = self._loaded().call("generate", tuple(prompts), progress=progress)
        return outcomes


class IsolatedTensors(IsolatedBackend):
    """Stands in for a TensorBackend."""

    def signature(self) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
        """Name what goes in and what comes out."""
        specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]] = self._loaded().call("signature")
        return specs

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the model there; raise BackendLost where that ended the process."""
        outputs: Mapping[str, NDArray[Any]] = self._loaded().call("run", dict(inputs))
        return outputs


class _Child:
    """The process, and this end of its socket."""

    def __init__(self, module: str) -> None:
        self._socket, theirs = socket.socketpair()
        argv = [sys.executable, "-m", "forge_runtime.backend_process", str(theirs.fileno()), module]
        # Same modules as here; the rest of the environment acts there as it would have here.
        environ = {name: value for name, value in os.environ.items() if name not in SECRETS}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        with theirs:
            self.process = subprocess.Popen(
                argv,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._connection = Connection(os.dup(self._socket.fileno()))
        # Not Connection.poll, which makes one for each call.
        self._readable = select.poll()
        self._readable.register(self._connection.fileno(), select.POLLIN)
        self._lost: Callable[[str], None] | None = None
        self._ended = threading.Event()
        self._expected = False
        self._killed = ""
        self._number = 0
        self._lock = threading.Lock()
        self._calling = threading.Lock()
        threading.Thread(target=self._log, name="backend log", daemon=True).start()
        # Not by the end of what it writes: a child of its own may hold that open.
        self._thread = threading.Thread(target=self._follow, name="backend", daemon=True)
        self._thread.start()

    def call(self, name: str, *values: object, progress: Progress | None = None) -> Any:
        """Send a call, wait for its answer."""
        with self._calling:
            self._number += 1
            reading = _Reading(progress, len(values[0]) if progress else 0)  # type: ignore[arg-type]
            try:
                self._send(name, *values)
                kind, value = self._wait(reading)
            except (EOFError, OSError):
                # Its end is reported before this call's is: no later call may run before the restart.
                self._thread.join()
                raise BackendLost(self._reason()) from None
        if reading.error is not None:
            raise reading.error
        if kind == "refused":
            raise value
        if kind == "unloadable":
            raise LoadError(value)
        if kind == "failed":
            raise ServingError(value)
        return value

    def _send(self, *message: object) -> None:
        self._connection.send_bytes(pickle.dumps((self._number, *message), pickle.HIGHEST_PROTOCOL))

    def _wait(self, reading: _Reading) -> tuple[str, Any]:
        due = time.monotonic() + POLL_S
        while True:
            if not reading.may_be_cancelled or self._readable.poll(POLL_S * 1000):
                number, kind, *values = pickle.loads(self._connection.recv_bytes())
                if number != self._number:
                    continue
                if kind != "emit":
                    return kind, values[0]
                reading.emit(*values)
            # Also while texts come without a pause.
            if time.monotonic() >= due:
                due = time.monotonic() + POLL_S
                if found := reading.newly_cancelled():
                    self._send("cancel", found)

    def watch(self, lost: Callable[[str], None]) -> None:
        """Call `lost` when the process ends, or now if it has."""
        with self._lock:
            self._lost = lost
            gone = self._ended.is_set() and not self._expected
        if gone:
            lost(self._reason())

    def kill(self, reason: str) -> None:
        """End the process and its children at once, and give that as the reason."""
        self._killed = reason
        self._kill()

    def end(self) -> None:
        """End the process, by force where it does not."""
        self._expected = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._kill()
            self.process.wait()
        self._thread.join(END_S)
        if not self._calling.locked():  # else the call closes nothing that it reads
            self._connection.close()
        self._socket.close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _log(self) -> None:
        """Log what the process says, line by line, until nobody can say any more."""
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            while line := lines.readline(LONGEST_LINE):
                if text := line.decode(errors="replace").rstrip():
                    log.relay(logger, text)

    def _follow(self) -> None:
        """Wait for the end; say so, and wake a call that waits for an answer."""
        self.process.wait()
        with self._lock:
            self._ended.set()
            lost = None if self._expected else self._lost
        self._kill()  # what it has started
        try:
            if lost is not None:
                lost(self._reason())
        finally:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _reason(self) -> str:
        if self._killed:
            return self._killed
        code = self.process.returncode
        if code is not None and code < 0:
            return f"The backend's process was ended by {signal.Signals(-code).name}"
        return f"The backend's process ended with status {code}"


class _Reading:
    """Those who wait for a call; what one of them raises is kept until the call has ended."""

    def __init__(self, progress: Progress | None, count: int) -> None:
        self._progress = progress
        self._waited_for = set(range(count))
        self.error: BaseException | None = None

    @property
    def may_be_cancelled(self) -> bool:
        return self._progress is not None

    def emit(self, index: int, text: str) -> None:
        if self._progress is not None and self.error is None:
            try:
                self._progress.emit(index, text)
            except BaseException as error:
                self.error = error

    def newly_cancelled(self) -> list[int]:
        if self._progress is None:
            return []
        try:
            found = [index for index in self._waited_for if self.error or self._progress.cancelled(index)]
        except BaseException as error:
            self.error = error
            found = list(self._waited_for)
        self._waited_for.difference_update(found)
        return found
