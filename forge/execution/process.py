"""Child processes: started, awaited, and gone when the build is stopped."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from forge.core.errors import HostError, Interrupted

_GONE = 10
"""Seconds that a killed process may take to be gone."""


class ProcessGroup:
    """Every process that a build has running; each leads a session of its own."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.stopped = False

    def run(
        self, line: Sequence[str], *, env: Mapping[str, str], log: Path, timeout: int, stdout: IO[bytes] | None = None
    ) -> int | None:
        """Run to the end, with both outputs in `log`; its exit code, or None when its time was up."""
        return self._run(line, env, log, timeout, stdout, None)

    def run_sandbox(self, line: Sequence[str], *, log: Path, timeout: int) -> tuple[int | None, bool]:
        """Run bubblewrap until every process in the sandbox is gone; its exit code, and whether it made the sandbox.

        Bubblewrap itself ends with the command, which may have left others behind that are only being killed then.
        """
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        try:
            try:
                status_line = [line[0], "--json-status-fd", str(writing), *line[1:]]
                code = self._run(status_line, {}, log, timeout, None, writing)
            finally:
                status = _read_status(reading)
                _await_gone(status.get("child-pid"))
            return code, "exit-code" in status
        finally:
            os.close(reading)
            os.close(writing)

    def stop(self) -> None:
        """End them all, and start no more."""
        with self._lock:
            self.stopped = True
            for process in self._running:
                _kill(process)

    def _run(
        self,
        line: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        timeout: int,
        stdout: IO[bytes] | None,
        handle: int | None,
    ) -> int | None:
        with log.open("wb") as sink:
            with self._lock:
                if self.stopped:
                    raise Interrupted("The build was stopped")
                process = subprocess.Popen(
                    line,
                    env=dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=stdout or sink,
                    stderr=sink,
                    umask=0o022,  # the caller's is no input
                    start_new_session=True,
                    pass_fds=() if handle is None else (handle,),
                )
                self._running.add(process)
            try:
                code = _wait(process, timeout)
            finally:
                _kill(process)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_GONE)
                with self._lock:
                    self._running.discard(process)
        if self.stopped and code != 0:
            raise Interrupted("The build was stopped")
        return code


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes], timeout: float) -> int | None:
    """Wait for the end; asleep, where `Popen.wait` with a timeout looks again every few milliseconds."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:  # a kernel before 5.3
        with suppress(subprocess.TimeoutExpired):
            return process.wait(timeout)
        return None
    ended = _poll(handle, timeout)
    return process.wait() if ended else None


def _read_status(handle: int) -> dict[str, int]:
    """Read what bubblewrap told: JSON objects, one a line, `child-pid` first, `exit-code` if the command ran."""
    data = b""
    with suppress(BlockingIOError):
        while chunk := os.read(handle, 1 << 16):
            data += chunk
    status: dict[str, int] = {}
    for line in data.splitlines():
        with suppress(ValueError):
            status |= {key: value for key, value in json.loads(line).items() if isinstance(value, int)}
    return status


def _await_gone(pid: int | None) -> None:
    """Wait until no process of a sandbox is left but perhaps its first; HostError when they do not end.

    The first one, bubblewrap's own, ends last, and slowly: it takes the namespaces down. Whatever else lives
    there descends from it, because the kernel gives it the orphans; so when it has no child, all are gone.
    """
    if pid is None:
        return
    with suppress(OSError):
        if not Path(f"/proc/{pid}/task/{pid}/children").read_bytes():
            return
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError:  # a kernel before 5.3
        deadline = time.monotonic() + _GONE
        while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
            time.sleep(0.001)
        return
    if not _poll(handle, _GONE):
        raise HostError(f"Process {pid} of a sandbox does not end", hint="It hangs in the kernel: see `dmesg`")


def _poll(handle: int, timeout: float) -> bool:
    """Wait for a process handle, and close it; False when the time was up."""
    try:
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        return bool(poller.poll(min(timeout, 2_000_000) * 1000))
    finally:
        os.close(handle)
