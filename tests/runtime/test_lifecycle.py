"""From the open port to the drained end, and what happens under load between."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

import forge_runtime
from forge_runtime import LoadError
from tests.runtime.fake import Client, FakeBackend, Reply, make_config, serving, wait_for

RUNTIME = Path(forge_runtime.__file__).parents[1]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_the_port_is_open_while_the_model_loads() -> None:
    loaded = threading.Event()
    backend = FakeBackend(load=lambda: assert_waited(loaded))
    with serving(backend, ready=False) as client:
        live, ready, infer = client.get("/healthz"), client.get("/readyz"), client.infer("one")
        loaded.set()
        client.wait_ready()

        assert (live.status, live.json) == (200, {"status": "ok"})
        assert (ready.status, ready.json) == (503, {"status": "loading", "model": "tiny"})
        assert (infer.status, infer.error["code"]) == (503, "loading")
        assert "retry-after" in infer.headers
        assert client.get("/readyz").json == {"status": "ready", "model": "tiny"}
        assert client.infer("one").status == 200


def assert_waited(event: threading.Event) -> None:
    assert event.wait(10)


@pytest.mark.parametrize("error", [LoadError("no weights"), KeyError("x"), SystemExit(0)], ids=repr)
def test_a_failed_load_ends_with_status_1(error: BaseException) -> None:
    def load() -> None:
        raise error

    with serving(FakeBackend(load=load), ready=False) as client:
        wait_for(lambda: bool(client.status))

        assert client.status == [1]


def test_a_full_queue_refuses_at_once(pool: ThreadPoolExecutor) -> None:
    backend = FakeBackend()
    with serving(backend, make_config(server={"queue_size": 2})) as client:
        held = hold(client, backend, pool)
        queued = [pool.submit(client.infer, f"q{index}") for index in range(2)]
        wait_for(lambda: client.metric("forge_queue_depth") == 2)

        refused = client.infer("late")
        backend.gate.set()

        assert (refused.status, refused.error["code"]) == (429, "queue_full")
        assert "retry-after" in refused.headers
        assert [f.result().status for f in (held, *queued)] == [200, 200, 200]


def test_probes_and_bad_requests_are_answered_while_the_model_works(
    pool: ThreadPoolExecutor,
) -> None:
    backend = FakeBackend()
    with serving(backend) as client:
        held = hold(client, backend, pool)

        assert client.get("/readyz").status == 200
        assert client.post(b"[]").status == 400
        assert not held.done()
        backend.gate.set()


def test_a_request_past_its_deadline_gets_504_and_the_next_is_served(
    pool: ThreadPoolExecutor,
) -> None:
    backend = FakeBackend()
    with serving(backend, make_config(server={"deadline_s": 0.2})) as client:
        reply = client.infer("!wait")

        assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
        assert backend.cancelled.wait(5)
        assert client.infer("one").status == 200


def test_a_client_that_leaves_frees_the_model() -> None:
    backend = FakeBackend()
    with serving(backend) as client:
        body = b'{"prompts": "!wait"}'
        head = b"POST /api/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        with socket.create_connection(("127.0.0.1", client.port)) as peer:
            peer.sendall(head + body)
            assert backend.running.wait(5)

        assert backend.cancelled.wait(5)
        assert client.infer("one").status == 200


def test_a_client_that_leaves_the_queue_is_never_run(pool: ThreadPoolExecutor) -> None:
    backend = FakeBackend()
    with serving(backend) as client:
        held = hold(client, backend, pool)
        body = b'{"prompts": "gone"}'
        head = b"POST /api/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        with socket.create_connection(("127.0.0.1", client.port)) as peer:
            peer.sendall(head + body)
            wait_for(lambda: client.metric("forge_queue_depth") == 1)
        wait_for(lambda: client.metric("forge_queue_depth") == 0)
        backend.gate.set()

        assert held.result().status == 200
        assert ("gone",) not in backend.batches


def test_stopping_drains_what_is_in_flight(pool: ThreadPoolExecutor) -> None:
    backend = FakeBackend()
    with serving(backend) as client:
        held = hold(client, backend, pool)
        queued = pool.submit(client.infer, "queued")
        wait_for(lambda: client.metric("forge_queue_depth") == 1)

        client.stop()
        wait_for(lambda: client.get("/readyz").status == 503)
        late = client.infer("late")
        backend.gate.set()

        assert (late.status, late.error["code"]) == (503, "draining")
        assert [held.result().status, queued.result().status] == [200, 200]
        wait_for(lambda: client.status == [0])


def test_what_is_not_drained_in_time_gets_503(pool: ThreadPoolExecutor) -> None:
    backend = FakeBackend()
    with serving(backend, make_config(server={"drain_s": 0.1})) as client:
        held = hold(client, backend, pool)
        client.stop()

        assert (held.result().status, held.result().error["code"]) == (503, "draining")
        wait_for(lambda: client.status == [0])


def hold(client: Client, backend: FakeBackend, pool: ThreadPoolExecutor) -> Future[Reply]:
    """Send a request that keeps the model until the gate opens."""
    future = pool.submit(client.infer, "!wait")
    assert backend.running.wait(5)
    return future


SCRIPT = """\
import os, sys, time
from forge_runtime.__main__ import main
from tests.runtime.fake import FakeBackend

class Slow(FakeBackend):
    def load(self, model, params):
        if model.name == "never":
            time.sleep(60)
        if model.name == "broken":
            raise OSError("the disk is gone")

    def _wait(self, cancelled):
        time.sleep(0.15)

sys.exit(main(os.environ, backend=Slow))
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the server as a process of its own, as an image does."""
    processes: list[subprocess.Popen[str]] = []

    def start(model: str = "tiny", *, fake: bool = True, **config: object) -> subprocess.Popen[str]:
        write(tmp_path, model, config)
        env = {
            "PYTHONPATH": os.pathsep.join([str(RUNTIME), str(ROOT)]),
            "FORGE_CONFIG": str(tmp_path / "config.json"),
            "HOME": "/tmp",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        argv = [sys.executable, *(["-c", SCRIPT] if fake else ["-m", "forge_runtime"])]
        process = subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True, cwd="/")
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def write(folder: Path, model: str, rest: Mapping[str, object]) -> None:
    base = {
        "schema": 1,
        "platform": "cpu_llm_trf",
        "backend": "transformers",
        "model": {"name": model, "path": "/models/weights"},
        "server": {"host": "127.0.0.1", "port": 0, "handler": "handler.py", "app_dir": str(folder)},
    }
    (folder / "config.json").write_text(json.dumps({**base, **rest}))
    handler = folder / "handler.py"
    if not handler.exists():
        handler.write_text("from forge_runtime import BaseServer\nclass Handler(BaseServer): pass\n")


def read_until(process: subprocess.Popen[str], message: str) -> dict[str, object]:
    """Return the first log line with this message; each line must be JSON."""
    assert process.stderr is not None
    for text in process.stderr:
        line: dict[str, object] = json.loads(text)
        if line["message"] == message:
            return line
    raise AssertionError(f"no line {message!r}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_drains_and_ends_with_status_0(
    start: Start, number: signal.Signals, pool: ThreadPoolExecutor
) -> None:
    process = start()
    port = read_until(process, "Listening")["port"]
    read_until(process, "Ready")
    client = Client(int(str(port)))
    replies = [pool.submit(client.infer, "!wait") for _ in range(2)]
    wait_for(lambda: client.metric("forge_requests_in_flight") == 2)

    process.send_signal(number)

    assert [reply.result().status for reply in replies] == [200, 200]
    assert process.wait(10) == 0


def test_a_signal_while_loading_ends_at_once_with_status_0(start: Start) -> None:
    process = start("never")
    read_until(process, "Listening")
    process.send_signal(signal.SIGTERM)

    assert process.wait(5) == 0


def test_a_failed_load_is_logged_and_ends_with_status_1(start: Start) -> None:
    _, log = (process := start("broken")).communicate(timeout=10)

    assert process.returncode == 1
    assert "the disk is gone" in log


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ({"params": {"top_q": 1}}, "params.top_q: Unknown key; did you mean `top_p`?"),
        ({"backend": "abacus"}, "Unknown backend `abacus`"),
        ({"server": {"handler": "none.py"}}, "none.py: No such file"),
    ],
    ids=["key", "backend", "handler"],
)
def test_a_wrong_start_says_so_on_one_line_with_status_2(start: Start, rest: dict[str, object], reason: str) -> None:
    _, log = (process := start(fake=False, **rest)).communicate(timeout=10)

    assert process.returncode == 2
    assert len(log.splitlines()) == 1
    assert reason in json.loads(log)["message"]


def test_a_taken_port_ends_with_status_1(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = {"host": "127.0.0.1", "port": taken.getsockname()[1]}
        _, log = (process := start(server=server)).communicate(timeout=10)

    assert process.returncode == 1
    assert "Cannot listen on" in log
