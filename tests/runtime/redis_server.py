"""Redis servers for tests, on 127.0.0.1: one that is imitated, one that is real, one that says what it is told."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import pytest
import redis
from fakeredis import TcpFakeServer
from fakeredis.stack._timeseries_mixin import TimeSeriesCommandsMixin

from tests.runtime import redis_stack
from tests.runtime.fake import wait_for

HOST = "127.0.0.1"


class RedisServer(Protocol):
    """One server, always on the same port; what it holds is gone when it is stopped."""

    port: int

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def pause(self) -> None:
        """Let it accept connections and answer nothing."""
        ...

    def resume(self) -> None: ...


class FakeRedis:
    """fakeredis behind a port."""

    def __init__(self) -> None:
        self.port = 0
        self._server: TcpFakeServer | None = None
        self._thread = threading.Thread()
        self._paused = False

    def start(self) -> None:
        self._server = TcpFakeServer((HOST, self.port))
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.005})
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None:
            self.resume()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    def pause(self) -> None:
        assert self._server is not None
        self._paused = self._server.fake_server.lock.acquire()

    def resume(self) -> None:
        if self._server is not None and self._paused:
            self._paused = False
            self._server.fake_server.lock.release()


class RealRedis:
    """The server of redis_stack.py, with its module or without."""

    def __init__(self, *, module: bool = True) -> None:
        self.port = 0
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        for _ in range(5):
            # Another program may take the port before it does.
            port = self.port or free_port()
            process = self._launch(port)
            wait_for(lambda: answers(port) or process.poll() is not None)  # noqa: B023
            if process.poll() is None:
                self.port, self._process = port, process
                return
        raise AssertionError("redis-server does not start")

    def stop(self) -> None:
        if self._process is not None:
            # It ends a process that is paused, too.
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _launch(self, port: int) -> subprocess.Popen[bytes]:
        place = redis_stack.folder().absolute()
        # It ends with the tests, however they end.
        argv = ["setpriv", "--pdeathsig", "KILL", f"{place}/{redis_stack.SERVER}"]
        argv += ["--bind", HOST, "--port", f"{port}", "--save", "", "--dir", "/"]
        if self._module:
            argv += ["--loadmodule", f"{place}/{redis_stack.MODULE}"]
        libraries = {**os.environ, "LD_LIBRARY_PATH": str(place)}
        return subprocess.Popen(argv, env=libraries, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class ScriptedRedis:
    """Answers `TS.ADD` with `answer`, all else with OK; where `answer` is empty, nothing."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.asked = 0
        script = self

        class Handler(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True

            def handle(self) -> None:
                while head := self.rfile.readline():
                    words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2) for _ in range(int(head[1:]))]
                    is_point = words[0] == b"TS.ADD\r\n"
                    script.asked += is_point
                    if answer := script.answer if is_point else "+OK":
                        self.wfile.write(f"{answer}\r\n".encode())

        self._server = socketserver.ThreadingTCPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port: int = self._server.server_address[1]

    @contextlib.contextmanager
    def running(self) -> Iterator[ScriptedRedis]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


class Inspector:
    """What a server holds, by a connection of the test's own."""

    def __init__(self, port: int) -> None:
        self._client = redis.Redis(host=HOST, port=port, protocol=2, decode_responses=True)
        self._execute: Callable[..., Any] = self._client.execute_command

    def command(self, *words: str | int) -> object:
        return self._execute(*words)

    def series(self) -> list[str]:
        return sorted(str(key) for key in self._client.scan_iter("AIF:*"))

    def samples(self, key: str) -> list[tuple[int, float]]:
        """Return time and value of each point, oldest first: fakeredis keeps the order in which they came."""
        return sorted((int(at), float(value)) for at, value in self._execute("TS.RANGE", key, "-", "+"))

    def info(self, key: str) -> Mapping[str, object]:
        found = self._execute("TS.INFO", key)
        return dict(zip(found[::2], found[1::2], strict=True))

    def labels(self, key: str) -> dict[str, str]:
        found = self.info(key)["labels"]
        assert isinstance(found, list)
        return dict(found)

    def close(self) -> None:
        self._client.close()


def free_port() -> int:
    """Return a port that nobody listened on a moment ago."""
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Say whether a Redis answers there."""
    client = redis.Redis(host=HOST, port=port, protocol=2, socket_timeout=1)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


@contextlib.contextmanager
def mended_fakeredis() -> Iterator[None]:
    """Let `TS.ADD` make a series that has ON_DUPLICATE and LABELS: fakeredis 2.40 refuses what Redis takes."""
    create = TimeSeriesCommandsMixin._create_timeseries

    def mended(self: TimeSeriesCommandsMixin, name: bytes, *args: bytes) -> object:
        at = args.index(b"ON_DUPLICATE")
        return create(self, name, *args[:at], *args[at + 2 :])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TimeSeriesCommandsMixin, "_create_timeseries", mended)
        yield
