"""A program in the foreground: it has this terminal, if there is one, and what stops forge stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Protocol

from forge.core.errors import HostError
from forge.execution.serve import STOP_SECONDS


class Stopper(Protocol):
    """Ends what a program runs."""

    def ask(self) -> None:
        """Tell it to finish what it has begun."""

    def kill(self) -> None:
        """End it at once."""


def attend(
    line: Sequence[str],
    environ: Mapping[str, str],
    stopper: Callable[[subprocess.Popen[bytes]], Stopper],
    *,
    has_terminal: bool,
    handles: Sequence[int] = (),
) -> int:
    """Run a program to its end; its exit code, 128 and the number for a signal.

    The first interrupt asks what it runs to stop, the second kills it. With a terminal Ctrl-C is the program's own.
    """
    try:
        process = subprocess.Popen(line, env=dict(environ), start_new_session=not has_terminal, pass_fds=handles)
    except OSError as error:
        raise HostError(f"`{line[0]}` cannot be run: {error.strerror}") from error
    end = stopper(process)
    interrupts = 0
    try:
        with _ctrl_c_is_its_own() if has_terminal else nullcontext():
            while True:
                try:
                    code = process.wait()
                    return code if code >= 0 else 128 - code
                except KeyboardInterrupt:
                    interrupts += 1
                    if interrupts > 1:
                        end.kill()
                        continue
                    end.ask()
                    timer = threading.Timer(STOP_SECONDS, end.kill)
                    timer.daemon = True
                    timer.start()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def _ctrl_c_is_its_own() -> Iterator[None]:
    """Do nothing at Ctrl-C: the terminal tells the program too, which does with it what it wants."""
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class ContainerStopper:
    """Ends a container by name, as Docker's command does: also one that is only being made."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, environ: Mapping[str, str]) -> None:
        self._process, self._name, self._environ = process, name, dict(environ)

    def ask(self) -> None:
        """Have it stopped, killed if it does not stop."""
        threading.Thread(target=self._stop, daemon=True).start()

    def kill(self) -> None:
        """Remove it."""
        self._docker("rm", "--force", "--volumes", self._name)
        if self._process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self._process.kill()

    def _stop(self) -> None:
        while self._process.poll() is None:
            if self._docker("stop", f"--time={STOP_SECONDS:.0f}", self._name):
                return
            with suppress(subprocess.TimeoutExpired):  # it is not there yet
                self._process.wait(0.2)

    def _docker(self, *words: str) -> bool:
        done = subprocess.run(
            ["docker", *words],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            start_new_session=True,
        )
        return done.returncode == 0


class SandboxStopper:
    """Ends bubblewrap, and with it all that runs in the sandbox."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ask(self) -> None:
        """End it: what is worked in by hand has nothing to finish."""
        self.kill()

    def kill(self) -> None:
        """End it."""
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)
