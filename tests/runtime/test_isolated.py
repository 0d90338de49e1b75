"""A backend in a process of its own: its crash is one failed request."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import forge_runtime
from forge_runtime import LoadError, RequestError, Sampling
from forge_runtime.backend import Generation, Outcome, Prompt
from forge_runtime.config import ModelConfig, Params
from forge_runtime.error import BackendLost, ServingError
from forge_runtime.isolated import IsolatedText
from forge_runtime.recovery import MAX_FAILURES, Recovery
from forge_runtime.worker import Worker
from tests.runtime.fake import Client, Readers, make_config, serving, wait_for

MODULE = "tests.runtime.fake"
MODEL = ModelConfig("tiny", Path("/models/weights"))
SAMPLING = Sampling(64)
ROOT = Path(__file__).parents[2]


def generate(backend: IsolatedText, *texts: str, readers: Readers | None = None) -> list[Outcome]:
    prompts = [Prompt(text, SAMPLING, readers is not None) for text in texts]
    return list(backend.generate(prompts, readers or Readers()))


@pytest.fixture(scope="module")
def backend() -> Iterator[IsolatedText]:
    backend = IsolatedText(MODULE)
    backend.load(MODEL, Params())
    yield backend
    backend.close()


@pytest.fixture
def client() -> Iterator[Client]:
    with serving(IsolatedText(MODULE)) as client:
        yield client


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_call_is_answered_as_if_it_ran_here(backend: IsolatedText) -> None:
    results = generate(backend, "one", "two")

    assert [result.text for result in results if isinstance(result, Generation)] == ["ONE", "TWO"]


def test_texts_are_heard_before_the_answer(backend: IsolatedText) -> None:
    readers = Readers()

    generate(backend, "one two", "three", readers=readers)

    assert readers.heard == [(0, "ONE "), (0, "TWO"), (1, "THREE")]


def test_it_runs_in_another_process(backend: IsolatedText) -> None:
    assert backend.pid != os.getpid()


def test_a_refusal_keeps_its_status_and_its_code(backend: IsolatedText) -> None:
    refused, answered = generate(backend, "!long", "one")

    assert isinstance(refused, RequestError)
    assert (refused.status, refused.param, refused.code) == (400, "prompts", "context_length_exceeded")
    assert isinstance(answered, Generation)


def test_what_it_raises_is_an_error_here(backend: IsolatedText) -> None:
    with pytest.raises(ServingError, match="ValueError: on purpose"):
        generate(backend, "!raise")


def test_it_hears_of_each_prompt_that_nobody_waits(backend: IsolatedText) -> None:
    readers = Readers(gone={0})
    ended = threading.Timer(0.1, lambda: readers.gone.add(1))
    ended.start()

    results = generate(backend, "!wait", "!wait", readers=readers)

    assert [result.text for result in results if isinstance(result, Generation)] == ["!WAIT", "!WAIT"]


def test_a_cancelled_call_does_not_cancel_the_next(backend: IsolatedText) -> None:
    generate(backend, "!wait", readers=Readers(gone={0}))
    readers = Readers()
    timer = threading.Timer(0.2, lambda: readers.gone.add(0))
    timer.start()
    started = time.monotonic()

    generate(backend, "!wait", readers=readers)

    assert time.monotonic() - started >= 0.19


def test_a_crash_is_a_named_error(caplog: pytest.LogCaptureFixture) -> None:
    backend = IsolatedText(MODULE)
    backend.load(MODEL, Params())

    with pytest.raises(BackendLost, match="ended by SIGABRT"):
        generate(backend, "!abort")


@pytest.mark.parametrize(
    ("name", "reason"), [("!broken", "no weights"), ("!abort", "/models/weights: .* ended by SIGABRT")]
)
def test_a_model_that_cannot_be_loaded_is_a_load_error(name: str, reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        IsolatedText(MODULE).load(replace(MODEL, name=name), Params())


def test_a_module_that_cannot_be_imported_is_an_error() -> None:
    with pytest.raises(ServingError, match="ModuleNotFoundError"):
        IsolatedText("no_such_module").load(MODEL, Params())


def test_closing_ends_the_process() -> None:
    backend = IsolatedText(MODULE)
    backend.load(MODEL, Params())
    pid = backend.pid

    backend.close()

    assert not is_alive(pid)


def test_a_crash_fails_one_request_and_the_server_goes_on(client: Client) -> None:
    before = client_backend(client).pid

    crashed = client.infer("!abort")

    assert (crashed.status, crashed.error["code"]) == (500, "internal_error")
    assert crashed.headers["x-request-id"] in str(crashed.error["message"])
    assert client.get("/healthz").status == 200
    client.wait_ready()
    assert client.infer("one").json == {"one": "ONE"}
    assert client_backend(client).pid != before
    assert client.metric("forge_backend_restarts_total") == 1


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_is_killed_while_idle_is_started_again(client: Client, number: signal.Signals) -> None:
    os.kill(client_backend(client).pid, number)
    wait_for(lambda: client.metric("forge_backend_restarts_total") == 1)

    assert client.get("/readyz").status == 200
    assert client.infer("one").status == 200


def test_it_is_not_ready_meanwhile(client: Client) -> None:
    client.infer("!abort")

    ready, refused = client.get("/readyz"), client.infer("one")

    assert (ready.status, ready.json) == (503, {"status": "restarting", "model": "tiny"})
    assert (refused.status, refused.error["code"]) == (503, "restarting")
    assert refused.headers["retry-after"] == "5"
    client.wait_ready()


def test_what_waits_is_answered_by_the_next_process(client: Client) -> None:
    with ThreadPoolExecutor(4) as pool:
        held = pool.submit(client.infer, "!wait")
        wait_for(lambda: client.metric("forge_batch_items_count") == 1)
        queued = [pool.submit(client.infer, name) for name in ("a", "b")]
        wait_for(lambda: client.metric("forge_queue_depth") == 2)

        os.kill(client_backend(client).pid, signal.SIGKILL)

        assert held.result().status == 500
        assert [reply.result().status for reply in queued] == [200, 200]


def test_a_second_crash_is_survived_too(client: Client) -> None:
    for count in (1, 2):
        assert client.infer("!abort").status == 500
        wait_for(lambda count=count: client.metric("forge_backend_restarts_total") == count)  # type: ignore[misc]

    assert client.infer("one").status == 200


def test_an_error_that_the_process_does_not_get_over_ends_it(client: Client) -> None:
    failed = client.infer("!cuda")
    wait_for(lambda: client.metric("forge_backend_restarts_total") == 1)

    assert failed.status == 500
    assert client.infer("one").json == {"one": "ONE"}


def test_a_call_that_hangs_is_ended_with_its_process(caplog: pytest.LogCaptureFixture) -> None:
    with serving(IsolatedText(MODULE), make_config(server={"deadline_s": 0.2, "hang_s": 0.2})) as client:
        hung = client.infer("!hang")
        wait_for(lambda: client.metric("forge_backend_restarts_total") == 1)

        assert (hung.status, hung.error["code"]) == (504, "deadline_exceeded")
        assert client.infer("one").json == {"one": "ONE"}
        assert "did not end within 0.2 s" in caplog.text


def test_a_call_that_somebody_waits_for_is_not_ended() -> None:
    with serving(IsolatedText(MODULE), make_config(server={"deadline_s": 1.0, "hang_s": 0.7})) as client:
        client.infer("!wait")

        assert client.infer("one").status == 200
        assert client.metric("forge_backend_restarts_total") == 0


def client_backend(client: Client) -> IsolatedText:
    """Reach for the backend of a server that runs in this process."""
    assert client.service is not None
    server = client.service._engine._supervisor.server
    assert server is not None
    backend = server.backend
    assert isinstance(backend, IsolatedText)
    return backend


SCRIPT = """\
import os, sys
from forge_runtime.__main__ import main
from forge_runtime.isolated import IsolatedText
sys.exit(main(os.environ, backend=lambda: IsolatedText("tests.runtime.fake")))
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(model: str) -> subprocess.Popen[str]:
        config = {
            "schema": 1,
            "platform": "cpu_llm_llama",
            "backend": "llama_cpp",
            "model": {"name": model, "path": "/models/weights"},
            "server": {"host": "127.0.0.1", "port": 0},
        }
        (tmp_path / "config.json").write_text(json.dumps(config))
        env = {
            "PYTHONPATH": os.pathsep.join([str(Path(forge_runtime.__file__).parents[1]), str(ROOT)]),
            "FORGE_CONFIG": str(tmp_path / "config.json"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        started.append(
            subprocess.Popen([sys.executable, "-c", SCRIPT], env=env, stderr=subprocess.PIPE, text=True, cwd="/")
        )
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


def lines_until(process: subprocess.Popen[str], message: str) -> list[dict[str, object]]:
    """Read the log, of which every line is JSON, up to a message."""
    assert process.stderr is not None
    lines = []
    for text in process.stderr:
        lines.append(json.loads(text))
        if lines[-1]["message"] == message:
            return lines
    raise AssertionError(f"no line {message!r}")


Start = Callable[[str], "subprocess.Popen[str]"]


def test_a_server_that_is_killed_leaves_no_process(process: Start) -> None:
    server = process("tiny")
    pid = int(str(lines_until(server, "Ready")[-1]["backend_pid"]))

    server.kill()

    wait_for(lambda: not is_alive(pid))


def test_a_server_that_is_told_to_stop_ends_with_0_and_leaves_no_process(process: Start) -> None:
    server = process("tiny")
    pid = int(str(lines_until(server, "Ready")[-1]["backend_pid"]))

    server.terminate()

    assert server.wait(10) == 0
    assert not is_alive(pid)


@pytest.mark.parametrize(("model", "reason"), [("!broken", "no weights"), ("!abort", "ended by SIGABRT")])
def test_a_failed_load_there_ends_the_server_with_1(process: Start, model: str, reason: str) -> None:
    _, text = (server := process(model)).communicate(timeout=20)

    assert server.returncode == 1
    assert reason in json.loads(text.splitlines()[-1])["message"]


def test_what_it_writes_is_logged_as_json(process: Start) -> None:
    server = process("tiny")
    pid = int(str(lines_until(server, "Ready")[-1]["backend_pid"]))

    os.kill(pid, signal.SIGSEGV)
    lines = lines_until(server, "Ready again")

    assert "SIGSEGV" in str([line["message"] for line in lines])


def test_a_model_that_cannot_be_loaded_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forge_runtime.recovery.FIRST_DELAY_S", 0.001)
    worker, given_up, attempts = Worker(1), threading.Event(), []
    outcomes: list[bool] = []

    def load() -> None:
        attempts.append(time.monotonic())
        raise LoadError("gone")

    worker.start(lambda: True)
    Recovery(worker, load, lambda: None, outcomes.append, given_up.set).begin()

    assert given_up.wait(5)
    assert (len(attempts), outcomes) == (MAX_FAILURES, [False])
    delays = [after - before for before, after in itertools.pairwise(attempts)]
    assert all(delay >= 0.001 * 2**number for number, delay in enumerate(delays))
    worker.stop(1)
