"""Redis servers for tests, on 127.0.0.1: one that is imitated, one that is real, one that says what it is told."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

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

    def start(self) -> None:
        self._server = TcpFakeServer((HOST, self.port))
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.005})
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    def pause(self) -> None:
        assert self._server is not None
        self._server.fake_server.lock.acquire()

    def resume(self) -> None:
        assert self._server is not None
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
        argv = [place / redis_stack.SERVER, "--bind", HOST, "--port", str(port), "--save", "", "--dir", "/"]
        if self._module:
            argv += ["--loadmodule", place / redis_stack.MODULE]
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

    def command(self, *words: str | int) -> object:
        return self._client.execute_command(*words)

    def keys(self) -> list[str]:
        return sorted(str(key) for key in self._client.scan_iter("AIF:*"))

    def samples(self, key: str) -> list[tuple[int, float]]:
        """Return time and value of each point, oldest first; none where there is no such series."""
        try:
            found = self._client.execute_command("TS.RANGE", key, "-", "+")
        except redis.ResponseError:
            return []
        return [(int(at), float(value)) for at, value in found]

    def info(self, key: str) -> Mapping[str, object]:
        found = self._client.execute_command("TS.INFO", key)
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


def mend_fakeredis() -> None:
    """Let `TS.ADD` make a series with labels where it has ON_DUPLICATE, as Redis does and fakeredis 2.40 does not."""
