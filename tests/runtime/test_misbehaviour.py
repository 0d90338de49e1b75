"""Handlers and backends that do what they must not: the request that is to blame fails, and no other."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from forge_runtime import BaseServer, Generation, Request, RequestError, Sampling
from forge_runtime.backend import Prompt
from forge_runtime.config import Params
from forge_runtime.isolated import IsolatedText
from forge_runtime.log import Outbox
from forge_runtime.service import EXIT_FAILED
from tests.runtime.fake import Client, FakeBackend, Readers, make_config, serving, wait_for

MODULE = "tests.runtime.fake"
TOGETHER = Params(batch_size=4, batch_wait_ms=2000, max_length=128)


class Fails(BaseServer):
    """Raises where it hands on a text."""

    def infer_batch(self, requests: Sequence[Request]) -> Sequence[Sequence[Generation] | RequestError]:
        def fail(index: int, text: str) -> None:
            raise ValueError("on purpose")

        return super().infer_batch([replace(each, emit=fail) if each.emit else each for each in requests])


def complete(client: Client, prompt: str, **rest: object) -> bytes:
    body = json.dumps({"prompt": prompt, **rest}).encode()
    return client.send("POST", "/v1/completions", body, {"content-type": "application/json"}).body


def test_an_answer_that_nobody_took_is_not_the_next_request_s() -> None:
    with serving(IsolatedText(MODULE), handler=Fails) as client:
        failed = complete(client, "secret of one", stream=True)

        assert b"SECRET" not in failed
        assert client.infer("two").json == {"two": "TWO"}


def test_a_backend_whose_children_live_on_is_missed_at_once() -> None:
    with serving(IsolatedText(MODULE)) as client:
        lost = client.infer("!orphan")
        wait_for(lambda: client.metric("forge_backend_restarts_total") == 1)

        assert lost.status == 500
        assert client.infer("one").status == 200


@pytest.mark.parametrize("noise", ["deep", "long"])
def test_what_a_backend_writes_does_not_end_its_supervision(noise: str) -> None:
    with serving(IsolatedText(MODULE)) as client:
        client.infer(f"!{noise}")
        client.infer("!abort")
        wait_for(lambda: client.metric("forge_backend_restarts_total") == 1)

        assert client.infer("one").status == 200


@pytest.mark.parametrize("count", [0, -1, None, "2", SystemExit(3)])
def test_a_count_that_is_none_is_one_request_s_fault(count: object) -> None:
    class Handler(BaseServer):
        def count(self, request: Request) -> int:
            if request.prompts == ("bad",):
                if isinstance(count, BaseException):
                    raise count
                return count  # type: ignore[return-value]
            return super().count(request)

    with serving(FakeBackend(), handler=Handler) as client:
        assert client.infer("bad").status == 500
        assert client.infer("good").status == 200


def together(client: Client, prompts: Sequence[str]) -> list[int]:
    with ThreadPoolExecutor(len(prompts)) as pool:
        return [reply.status for reply in pool.map(client.infer, prompts)]


@pytest.mark.parametrize("error", [RequestError("Not `bad`"), SystemExit(3), ValueError("on purpose")])
@pytest.mark.parametrize("as_outcome", [True, False])
def test_what_one_request_of_a_batch_raises_is_not_its_neighbours(error: BaseException, as_outcome: bool) -> None:
    class Handler(BaseServer):
        def infer_batch(self, requests: Sequence[Request]) -> Sequence[Sequence[Generation] | RequestError]:
            bad = [request.prompts == ("bad",) for request in requests]
            if any(bad) and not as_outcome:
                raise error
            found = super().infer_batch(requests)
            return [error if each else one for each, one in zip(bad, found, strict=True)]  # type: ignore[misc]

    with serving(FakeBackend(), make_config(params=TOGETHER), handler=Handler) as client:
        expected = 400 if isinstance(error, RequestError) else 500

        assert together(client, ["good", "bad", "fine", "well"]) == [200, expected, 200, 200]


def test_a_lost_backend_costs_the_request_that_is_to_blame() -> None:
    with serving(IsolatedText(MODULE), make_config(params=TOGETHER)) as client:
        assert together(client, ["a", "!abort", "b", "c"]) == [200, 500, 200, 200]


def test_a_hook_that_hangs_ends_the_server_and_not_only_its_requests() -> None:
    ended = threading.Event()

    class Handler(BaseServer):
        def preprocess(self, request: Request) -> Request:
            if request.prompts == ("hang",):
                ended.wait(30)
            return request

    limits = {"deadline_s": 0.2, "hang_s": 0.2}
    with serving(FakeBackend(), make_config(server=limits), handler=Handler) as client:
        assert client.infer("hang").status == 504
        client.join()
        ended.set()

        assert client.status == [EXIT_FAILED]


def test_a_model_that_is_never_warm_again_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forge_runtime.recovery.FIRST_DELAY_S", 0.01)
    # Twice, each with time for a process to start on a busy machine.
    monkeypatch.setattr("forge_runtime.recovery.MAX_FAILURES", 2)
    lost = threading.Event()

    class Handler(BaseServer):
        def warm_up(self) -> None:
            if lost.is_set():
                self.backend.generate([Prompt("!hang", Sampling(64))], Readers())

    with serving(IsolatedText(MODULE), make_config(server={"load_timeout_s": 5}), handler=Handler) as client:
        lost.set()
        client.infer("!abort")
        client.join()

        assert client.status == [EXIT_FAILED]


def test_abandoned_requests_do_not_stay_in_memory() -> None:
    backend = FakeBackend()
    with serving(backend, make_config(server={"hang_s": 60})) as client, ThreadPoolExecutor(8) as pool:
        held = pool.submit(client.infer, "!wait")
        assert backend.running.wait(5)
        body = json.dumps({"prompts": ["x" * 10_000]}).encode()
        left = [pool.submit(client.send, "POST", "/api/infer", body, {"x-request-timeout": "0.1"}) for _ in range(7)]

        assert {reply.result().status for reply in left} == {504}
        assert client.metric("forge_queue_depth") == 0
        backend.gate.set()
        assert held.result().status == 200


def test_a_log_that_nobody_reads_holds_up_nobody() -> None:
    script = (
        "import os\n"
        "from forge_runtime.__main__ import run\n"
        "from tests.runtime.fake import FakeBackend\n"
        "run(os.environ, backend=FakeBackend)\n"
    )
    root = Path(__file__).parents[2]
    environ = {
        "PYTHONPATH": f"{root / 'runtime'}:{root}",
        "FORGE_CONFIG": "/dev/stdin",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    config = {
        "schema": 1,
        "platform": "p",
        "backend": "fake",
        "model": {"name": "tiny", "path": "/models/weights"},
        "server": {"host": "127.0.0.1", "port": 0},
    }
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=environ,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    assert process.stdin is not None and process.stderr is not None
    process.stdin.write(json.dumps(config))
    process.stdin.close()
    client = Client(json.loads(process.stderr.readline())["port"])
    try:
        client.wait_ready()
        started = time.monotonic()
        statuses = {client.infer("one").status for _ in range(400)}  # 65 KiB fill the pipe

        assert statuses == {200}
        assert time.monotonic() - started < 15
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.stderr.close()


class Stuck:
    """A stream that takes nothing until it is let."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.lines: list[str] = []

    def write(self, text: str) -> None:
        self.free.wait(10)
        self.lines.append(text)

    def flush(self) -> None:
        pass


def test_lines_that_were_dropped_are_counted() -> None:
    stuck = Stuck()
    outbox = Outbox(stuck, size=2)  # type: ignore[arg-type]
    for number in range(10):
        outbox.emit(logging.makeLogRecord({"msg": str(number)}))
    stuck.free.set()
    outbox.emit(logging.makeLogRecord({"msg": "last"}))
    wait_for(lambda: any("dropped" in line for line in stuck.lines))

    assert any("dropped" in line for line in stuck.lines)
