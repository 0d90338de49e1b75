"""A real BuildGrid, a server of the Remote Execution API, for the tests: installed once into a folder of its own.

    python -m tests.e2e.buildgrid

requirements/buildgrid.lock has it by digest. The folder is `FORGE_TEST_CACHE`, else `.forge/test-cache` of this
checkout. Ends with 1 and says why where it cannot be had.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[2]
LOCK: Final = CHECKOUT / "requirements/buildgrid.lock"
INSTALL_S: Final = 300
START_S: Final = 60
_CONFIGURATION: Final = """\
server:
  - !channel
    address: 127.0.0.1:{port}
    insecure-mode: true
authorization:
  method: none
monitoring:
  enabled: false
instances:
  - name: "{instance}"
    storages:
      - !disk-storage &storage
        path: {folder}
    caches:
      - !lru-action-cache &cache
        storage: *storage
        max-cached-refs: 100000
        allow-updates: true
        cache-failed-actions: false
    services:
      - !action-cache
        cache: *cache
      - !cas
        storage: *storage
      - !bytestream
        storage: *storage
"""


class Unavailable(Exception):
    """It cannot be had here."""


def folder() -> Path:
    """Return where it is, or would be."""
    cache = os.environ.get("FORGE_TEST_CACHE")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (Path(cache) if cache else CHECKOUT / ".forge/test-cache") / f"buildgrid-py{python}"


def is_ready() -> bool:
    """Say whether it is there, as the lock has it."""
    installed = folder() / LOCK.name
    return installed.is_file() and installed.read_bytes() == LOCK.read_bytes()


def prepare() -> None:
    """Install it where it is not there; raise Unavailable with the reason."""
    if is_ready():
        return
    goal = folder()
    shutil.rmtree(goal, ignore_errors=True)
    goal.parent.mkdir(parents=True, exist_ok=True)
    pip: list[str | Path]
    try:
        venv.create(goal, with_pip=True)
        pip = [goal / "bin/python", "-I", "-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "60"]
        pip += ["--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", LOCK]
        done = subprocess.run(
            pip, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(str(error)) from error
    if done.returncode:
        raise Unavailable(f"pip: {(done.stderr.strip().splitlines() or ['nothing was said'])[-1]}")
    shutil.copy(LOCK, goal)


@contextmanager
def running(instance: str = "") -> Iterator[str]:
    """Serve from an empty disk; its address."""
    with tempfile.TemporaryDirectory() as name:
        base, port = Path(name), _free_port()
        text = _CONFIGURATION.format(port=port, instance=instance, folder=base / "cas")
        (base / "buildgrid.yml").write_text(text)
        with (base / "log").open("w") as log:
            command: list[str | Path] = [folder() / "bin/bgd", "server", "start", base / "buildgrid.yml"]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _wait(process, port, base / "log")
            yield f"grpc://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with closing(socket.socket()) as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"BuildGrid does not answer: {log.read_text()[-2000:]}")


if __name__ == "__main__":
    try:
        prepare()
    except Unavailable as error:
        sys.exit(f"No BuildGrid: {error}")
