"""Child processes: started, awaited, and gone when the build is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from forge.core.errors import Interrupted


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
                    start_new_session=True,
                )
                self._running.add(process)
            try:
                return process.wait(timeout)
            except subprocess.TimeoutExpired:
                return None
            finally:
                _end(process)
                with self._lock:
                    self._running.discard(process)

    def stop(self) -> None:
        """End them all, and start no more."""
        with self._lock:
            self.stopped = True
            for process in self._running:
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
