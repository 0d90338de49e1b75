"""Serving an image's own file system in the sandbox, in the foreground."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from forge.core.action import OUT, WORK
from forge.core.tool import TreeContent
from forge.execution.home import host_errors
from forge.execution.materialize import materialize
from forge.execution.sandbox import Sandbox
from forge.execution.scratch import remove
from forge.execution.store import LocalStore

STOP_SECONDS = 40.0
"""What a service gets to drain before it is killed: more than the runtime's own limit."""


def serve(
    store: LocalStore, bwrap: str, root: TreeContent, argv: Sequence[str], env: Mapping[str, str], workdir: str
) -> int:
    """Run a service on the host's network until it ends; its exit code.

    The first interrupt asks it to stop and lets it finish what it has begun; the second kills it.
    HostError when there is no sandbox.
    """
    rootfs = materialize(store, root)
    base = store.scratch.subfolder()
    with host_errors(base):
        for name in (WORK, f"{WORK}/{OUT}", OUT, "tmp"):
            (base / name).mkdir()
        (base / "tmp").chmod(0o1777)
    sandbox = Sandbox(rootfs, base / WORK, base / OUT, base / "tmp", env, workdir=workdir, network=True)
    line = sandbox.command(bwrap, argv)
    reading, writing = os.pipe()
    # As pid 1 the service itself gets the signal to stop, not an init that would not pass it on.
    line[1:1] = ["--as-pid-1", "--json-status-fd", str(writing)]
    try:
        process = subprocess.Popen(line, env={}, pass_fds=[writing], stdin=subprocess.DEVNULL, start_new_session=True)
        os.close(writing)
        return _attend(process, reading)
    finally:
        os.close(reading)
        remove(base)


def _attend(process: subprocess.Popen[bytes], status: int) -> int:
    child = _child(status)
    interrupts = 0
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            interrupts += 1
            first = interrupts == 1 and child
            with suppress(ProcessLookupError):
                os.kill(child or process.pid, signal.SIGTERM if first else signal.SIGKILL)
            if first:
                timer = threading.Timer(STOP_SECONDS, process.kill)
                timer.daemon = True
                timer.start()


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
