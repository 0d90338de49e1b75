"""A server in a process of its own, as an image starts it, with a backend of these benchmarks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MODEL", "ROOT", "Server", "children", "is_alive", "serving", "started", "wait_for", "wait_ready"]

ROOT = Path(__file__).parents[1]
MODEL = "fake"
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
TEXT = 'IsolatedText("benchmarks.fake_backend")'
SCRIPT = """\
import os, sys
from forge_runtime.__main__ import main
from forge_runtime.isolated import IsolatedTensors, IsolatedText
sys.exit(main(os.environ, backend=lambda: {backend}))
"""
START_S = 60.0
END_S = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """A process that serves."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    """What it writes to stderr. Not a pipe: to read that would cost the client's time."""

    @property
    def pid(self) -> int:
        """The server's process."""
        return self.process.pid

    def rss(self) -> int:
        """Bytes that the server's process holds."""
        return int(_status(self.pid, "VmRSS")) * 1024

    def peak(self) -> int:
        """The most that it has held since `forget_peak`."""
        return int(_status(self.pid, "VmHWM")) * 1024

    def forget_peak(self) -> int:
        """Count the peak from now on; return what it is now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self.peak()

    def descriptors(self) -> int:
        """How many it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def lines(self, message: str) -> list[dict[str, object]]:
        """Lines of the log with this message, as far as they are whole."""
        return [line for line in self._lines() if line.get("message") == message]

    def errors(self) -> list[str]:
        """Messages of the log that say that something is wrong here, and not with a client."""
        return [str(line["message"]) for line in self._lines() if line.get("level") in ("error", "critical")]

    def backend_pid(self) -> int:
        """The process that holds the model; 0 while there is none."""
        found = children(self.pid)
        return found[0] if found else 0

    def _lines(self) -> Iterator[dict[str, object]]:
        text = self.log.read_bytes().decode(errors="replace")
        return (_line(line) for line in text.splitlines(keepends=True) if line.endswith("\n"))

    def terminate(self) -> None:
        """Tell it to stop."""
        self.process.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def serving(
    *,
    server: Mapping[str, object] | None = None,
    params: Mapping[str, object] | None = None,
    redis: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    backend: str = TEXT,
    name: str = "llama_cpp",
    path: Path | None = None,
    prepare: Callable[[Path], None] = lambda folder: None,
) -> Iterator[Server]:
    """Run a server until the end of the block; its sections of config.json and its environment are given.

    `backend` is an expression, `name` the backend that the configuration says it is, `path` the model's folder.
    `prepare` is given the folder that handlers are looked for in.
    """
    with tempfile.TemporaryDirectory(prefix="forge-load-") as text:
        folder = Path(text)
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
        prepare(folder)
        config = {
            "schema": 1,
            "platform": "load",
            "backend": name,
            "model": {"name": MODEL, "path": str(path or folder)},
            "server": {"host": "127.0.0.1", "port": 0, "app_dir": str(folder), **(server or {})},
            "params": dict(params or {}),
            "redis": dict(redis or {}),
        }
        (folder / "config.json").write_text(json.dumps(config))
        variables = {"FORGE_CONFIG": str(folder / "config.json"), **(environ or {})}
        with started(["-c", SCRIPT.format(backend=backend)], folder / "log", variables) as process:
            port = wait_ready(process, folder / "log")
            yield Server(process, port, folder / "log")


@contextlib.contextmanager
def started(argv: Sequence[str], log: Path, environ: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python in this checkout, and end it and what it has started."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "runtime")])
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", **environ}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, *argv], cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
        )
    try:
        yield process
    finally:
        below = children(process.pid)
        process.kill()
        process.wait()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_ready(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait until the log says that it is ready; return its port."""

    def ready() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"The server ended with {process.returncode}: {log.read_text()[-2000:]}")
        return b'"Ready"' in log.read_bytes()

    wait_for(ready, START_S)
    lines = [_line(line) for line in log.read_text().splitlines()]
    return int(str(next(line["port"] for line in lines if line.get("message") == "Listening")))


def wait_for(condition: Callable[[], bool], timeout: float = 10) -> None:
    """Wait until `condition` holds, or raise TimeoutError."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= end:
            raise TimeoutError(f"Not within {timeout:g} s")
        time.sleep(0.005)


def children(pid: int) -> list[int]:
    """Processes that a process has started, and that still are."""
    try:
        return [
            int(child)
            for task in os.listdir(f"/proc/{pid}/task")
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        ]
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no mere entry in its parent's list."""
    try:
        return _status(pid, "State")[0] != "Z"
    except (OSError, StopIteration):
        return False


def _status(pid: int, key: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{key}:"))


def _line(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
