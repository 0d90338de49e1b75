"""Serving an image's own file system in the sandbox."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from forge.core.action import OUT, WORK
from forge.core.tool import TreeContent
from forge.execution.home import host_errors
from forge.execution.materialize import materialize
from forge.execution.mount import Mount
from forge.execution.sandbox import Sandbox
from forge.execution.scratch import remove
from forge.execution.store import LocalStore

STOP_SECONDS = 40.0
"""What a service gets to drain before it is killed: more than the runtime's own limit."""


class Service:
    """A service that has been started."""

    def __init__(self, process: subprocess.Popen[bytes], child: int) -> None:
        self._process = process
        self._child = child
        """Its process id as this machine sees it; 0 when the sandbox did not come up."""

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Wait until it ends; its exit code."""
        return self._process.wait()

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Let it finish what it has begun, and kill it when that takes longer; its exit code."""
        self.ask_to_stop()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()

    def ask_to_stop(self) -> None:
        """Tell it to finish what it has begun."""
        self._send(signal.SIGTERM if self._child else signal.SIGKILL)

    def kill(self) -> None:
        """End it at once."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self._child or self._process.pid, number)


def serve(
    store: LocalStore,
    bwrap: str,
    root: TreeContent,
    argv: Sequence[str],
    env: Mapping[str, str],
    workdir: str,
    *,
    secrets: Mapping[str, str] | None = None,
    mounts: tuple[Mount, ...] = (),
    network: bool = True,
) -> int:
    """Run a service until it ends; its exit code. `secrets` are variables that nobody else sees.

    The first interrupt asks it to stop and lets it finish what it has begun; the second kills it.
    HostError when there is no sandbox.
    """
    with started(store, bwrap, root, argv, env, workdir, secrets=secrets, mounts=mounts, network=network) as service:
        interrupts = 0
        while True:
            try:
                return service.wait()
            except KeyboardInterrupt:
                interrupts += 1
                if interrupts > 1:
                    service.kill()
                    continue
                service.ask_to_stop()
                timer = threading.Timer(STOP_SECONDS, service.kill)
                timer.daemon = True
                timer.start()


@contextmanager
def started(
    store: LocalStore,
    bwrap: str,
    root: TreeContent,
    argv: Sequence[str],
    env: Mapping[str, str],
    workdir: str,
    *,
    log: IO[bytes] | None = None,
    secrets: Mapping[str, str] | None = None,
    mounts: tuple[Mount, ...] = (),
    network: bool = True,
) -> Iterator[Service]:
    """Start a service on the host's network, with both outputs in `log`; whatever happens, none is left at the end."""
    rootfs = materialize(store, root)
    base = store.scratch.subfolder()
    with host_errors(base):
        for name in (WORK, f"{WORK}/{OUT}", OUT, "tmp"):
            (base / name).mkdir()
        (base / "tmp").chmod(0o1777)
    more = _hidden(secrets) if secrets else None
    work, out, tmp = base / WORK, base / OUT, base / "tmp"
    sandbox = Sandbox(rootfs, work, out, tmp, env, workdir=workdir, network=network, mounts=mounts, more=more)
    line = sandbox.command(bwrap, argv)
    reading, writing = os.pipe()
    # As pid 1 the service itself gets the signal to stop, not an init that would not pass it on.
    line[1:1] = ["--as-pid-1", "--json-status-fd", str(writing)]
    process = None
    try:
        process = subprocess.Popen(
            line,
            env={},
            pass_fds=[writing] if more is None else [writing, more],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        os.close(writing)
        if more is not None:
            os.close(more)
        yield Service(process, _child(reading))
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        os.close(reading)
        remove(base)


def _hidden(secrets: Mapping[str, str]) -> int:
    """Write variables where only a process that has the descriptor can read them: in memory, under no name."""
    words = [word for name, value in sorted(secrets.items()) for word in ("--setenv", name, value)]
    handle = os.memfd_create("forge")
    with os.fdopen(os.dup(handle), "wb") as file:
        file.write("".join(f"{word}\0" for word in words).encode())
        file.flush()
        os.lseek(handle, 0, os.SEEK_SET)
    return handle


def _child(status: int) -> int:
    """Read the service's process id as this machine sees it; 0 when the sandbox did not come up."""
    data = b""
    while b"}" not in data:
        chunk = os.read(status, 4096)
        if not chunk:
            return 0
        data += chunk
    with suppress(ValueError, KeyError):
        return int(json.loads(data[: data.index(b"}") + 1])["child-pid"])
    return 0
