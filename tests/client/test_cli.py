"""The command: flags, variables, files, exit statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forge_client.cli import main
from tests.client.fake import Asked, FakeServer, Reply, echo, reply, serving, stream, token, unused_port

VARIABLES = (
    "SERVER_IP", "SERVER_PORT", "DATASET", "DATASET_SIZE", "NUMBER_OF_REQUESTS", "NUMBER_OF_WARMUPS", "OUTPUT",
    "METRICS_OUTPUT", "POWER_METRICS_OUTPUT", "SERVER_LOGS_OUTPUT", "FORGE_ADMIN_TOKEN", "FORGE_CLIENT_CONFIG",
)  # fmt: skip
RUNTIME = Path(__file__).parents[2] / "runtime"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server like forge's."""
    with serving(echo) as found:
        yield found


def run(*argv: str) -> int:
    """Run a command line; its status, also where argparse ends the process."""
    try:
        return main(
            ["--wait=0", *argv] if not argv or argv[0].startswith(("-", "http")) else [argv[0], "--wait=0", *argv[1:]]
        )
    except SystemExit as error:
        return int(error.code or 0)


def test_all_answered_is_status_0_and_a_table(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == run(fake.url, "--requests=7", "--warmup=2", "--prompt=a")

    said = capsys.readouterr()
    assert said.out.startswith(f"{fake.url}, infer, 1 prompt\n")
    assert "" == said.err
    assert 9 == len(fake.posted)


def test_one_that_fails_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter([reply({"error": {"message": "Lost"}}, 500)])
    with serving(lambda asked: (next(answers, None) if asked.method == "POST" else None) or echo(asked)) as fake:
        assert 1 == run(fake.url, "--requests=5", "--warmup=0")

    said = capsys.readouterr()
    assert "error: concurrency 1: 1 of 5 requests without a good answer (1 http_500)\n" == said.err
    assert "concurrency 1: http_500: Status 500: Lost" in said.out


def test_one_that_may_fail_is_status_0() -> None:
    answers = iter([reply(b"", 500)])
    with serving(lambda asked: (next(answers, None) if asked.method == "POST" else None) or echo(asked)) as fake:
        assert 0 == run(fake.url, "--requests=5", "--warmup=0", "--max-errors=20%")


@pytest.mark.parametrize(
    "words",
    [
        ["--nonsense"], ["--concurrency=x"], ["--requests=0"], ["--rate=1", "--concurrency=2"], ["--timeout=-1"],
        ["--prompt=a", "--dataset=b"], ["--dataset=none.json"], ["--max-errors=x"], ["--header=x"], ["--tag=x"],
        ["--json=none/x.json"], ["--api=soap"], ["--dataset-size=x"], ["--retries=-1"],
    ],
    ids=lambda words: " ".join(words),
)  # fmt: skip
def test_a_wrong_command_is_status_2_and_sends_nothing(fake: FakeServer, words: list[str]) -> None:
    assert 2 == run(fake.url, *words)
    assert [] == fake.posted


def test_a_wrong_address_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == run("http://")
    assert "error: 'http://' is no address of an HTTP server\n  hint: " in capsys.readouterr().err


def test_nobody_there_is_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert 3 == run(f"http://127.0.0.1:{unused_port()}")
    assert "is not ready after 0 s: Nothing listens on" in capsys.readouterr().err


def test_a_server_that_is_not_ready_in_time_is_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda asked: reply({"status": "loading"}, 503)) as fake:
        assert 3 == run(fake.url)

    assert '`/readyz` answers 503: {"status": "loading"}' in capsys.readouterr().err


def test_it_waits_until_the_server_is_ready() -> None:
    loading = iter([reply(b"", 503)] * 3)
    with serving(lambda asked: next(loading, None) or echo(asked)) as fake:
        assert 0 == run(fake.url, "--wait=20", "--requests=1")


@pytest.mark.parametrize("healthy", ["/readyz", "/v2/health/ready", "/health", "/nothing"])
def test_the_first_health_check_that_a_server_has_decides(healthy: str) -> None:
    def script(asked: Asked) -> Reply:
        return reply() if asked.path == healthy else echo(asked) if asked.path == "/api/infer" else reply(b"", 404)

    with serving(script) as fake:
        assert 0 == run(fake.url, "--requests=1", "--api=infer")


def serve_models(asked: Asked) -> Reply:
    """Completions with a stream, one model."""
    if asked.path == "/v1/models":
        return reply({"object": "list", "data": [{"id": "tiny"}]})
    if asked.path == "/v1/completions":
        usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
        return stream([token("x"), token("y", finish="stop"), usage, "[DONE]"])
    return echo(asked)


def serve_tensors(asked: Asked) -> Reply:
    """The Open Inference Protocol, one model."""
    if asked.path == "/v2/models/m":
        return reply({"name": "m", "inputs": [{"name": "A", "datatype": "FP32", "shape": [-1, 2]}]})
    if asked.path == "/v2/repository/index":
        return reply([{"name": "m"}])
    if asked.path == "/v2/models/m/infer":
        return reply({"outputs": [{"name": "B", "datatype": "FP32", "shape": [1], "data": [1]}]})
    return reply({"name": "triton"}) if asked.path == "/v2" else reply(b"", 404)


@pytest.mark.parametrize(
    ("script", "words", "path"),
    [
        (echo, [], "/api/infer"),
        (serve_models, [], "/v1/completions"),
        (serve_models, ["--api=infer"], "/api/infer"),
        (serve_tensors, [], "/v2/models/m/infer"),
    ],
    ids=["infer", "models", "as told", "tensors"],
)
def test_the_server_is_asked_what_it_has(script: Callable[[Asked], Reply], words: list[str], path: str) -> None:
    with serving(script) as fake:
        assert 0 == run(fake.url, "--requests=2", "--warmup=0", *words)

    assert path in [each.path for each in fake.posted]


def test_a_server_that_has_nothing_known_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda asked: reply(b"", 404)) as fake:
        assert 2 == run(fake.url)

    assert "has neither /v1/models nor /api/infer nor /v2" in capsys.readouterr().err


def test_data_decides_where_it_goes(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"data": [{"A": [1, 2]}]}')
    with serving(serve_tensors) as fake:
        assert 0 == run(fake.url, "--requests=1", "--warmup=0", f"--dataset={tmp_path / 'a.json'}")

    assert {"inputs": [{"name": "A", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]} == fake.posted[-1].json


def test_the_report_goes_to_files_and_output(
    fake: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [f"--json={tmp_path / 'a.json'}", f"--html={tmp_path / 'a.html'}"]
    words = [
        "--concurrency=1,2",
        "--requests=4",
        "--output=json",
        "--tag=target=//x",
        "--header=Authorization: Bearer s3cret",
    ]
    assert 0 == run(fake.url, *files, *words)

    found: Any = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "a.json").read_text())
    assert (1, fake.url, "infer", {"target": "//x"}) == (
        found["schema"], found["target"], found["api"], found["tags"],
    )  # fmt: skip
    assert [1, 2] == [each["concurrency"] for each in found["levels"]]
    assert "<svg" in (tmp_path / "a.html").read_text()
    assert {"Bearer s3cret"} == {each.headers.get("authorization") for each in fake.asked}
    assert "s3cret" not in (tmp_path / "a.json").read_text() + (tmp_path / "a.html").read_text()


def test_the_predecessors_variables_are_defaults(
    fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompts.json").write_text('{"prompts": ["a", "b", "c"], "gen": {"max_new_tokens": 3}}')
    for name, value in {
        "SERVER_IP": "127.0.0.1", "SERVER_PORT": str(fake.port), "DATASET": str(tmp_path / "prompts.json"),
        "DATASET_SIZE": "2", "NUMBER_OF_REQUESTS": "4", "NUMBER_OF_WARMUPS": "0",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)

    assert 0 == run()
    assert [["a"], ["b"], ["a"], ["b"]] == [each.json["prompts"] for each in fake.posted]  # type: ignore[index]


@pytest.mark.parametrize("size", ["Default", "all"])
def test_the_predecessors_default_size_is_all(
    fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    (tmp_path / "a.txt").write_text("a\nb\n")
    monkeypatch.setenv("DATASET", str(tmp_path / "a.txt"))
    monkeypatch.setenv("DATASET_SIZE", size)

    assert 0 == run(fake.url, "--requests=2", "--warmup=0")
    assert 2 == len({each.body for each in fake.posted})


@pytest.mark.parametrize(("name", "value"), [("SERVER_PORT", "tcp://10.0.0.1:3000"), ("NUMBER_OF_REQUESTS", "many")])
def test_a_variable_that_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    assert 2 == run()
    assert name in capsys.readouterr().err


def test_a_flag_beats_a_variable_and_that_beats_the_file(
    fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {
        "schema": 1,
        "platform": "client",
        "defaults": {"requests": 9, "warmup": 1, "concurrency": "3", "api": "infer"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("FORGE_CLIENT_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.setenv("NUMBER_OF_WARMUPS", "0")

    assert 0 == run(fake.url, "--requests=6")
    assert 6 == len(fake.posted)
    assert 0 == run(fake.url, "--rate=100", "--duration=0.05")
    assert 6 + 5 == len(fake.posted)


@pytest.mark.parametrize("text", ["{", '{"schema": 2}', '{"schema": 1, "defaults": {"speed": 1}}'])
def test_a_file_of_defaults_that_is_wrong_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "config.json").write_text(text)
    monkeypatch.setenv("FORGE_CLIENT_CONFIG", str(tmp_path / "config.json"))

    assert 2 == run()
    assert str(tmp_path / "config.json") in capsys.readouterr().err


def test_a_data_set_is_answered_once_in_one_request(fake: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\nb\n")

    assert 0 == run("infer", fake.url, f"--dataset={tmp_path / 'a.txt'}", f"--to={tmp_path / 'out.json'}")
    assert [["a", "b"]] == [each.json["prompts"] for each in fake.posted]  # type: ignore[index]
    assert {"a", "b"} == set(json.loads((tmp_path / "out.json").read_text()))


def test_several_files_have_an_answer_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("1.png", "2.png"):
        (tmp_path / "pictures" / name).write_bytes(name.encode())

    def script(asked: Asked) -> Reply:
        if asked.method != "POST":
            return echo(asked)
        return reply({"image": 1}) if asked.body == b"1.png" else reply(b"\x89PNG", kind="image/png")

    with serving(script) as fake:
        assert 0 == run("infer", fake.url, f"--dataset={tmp_path / 'pictures'}")

    assert [{"image": 1}, {"content_type": "image/png", "base64": "iVBORw=="}] == json.loads(capsys.readouterr().out)


def test_an_answer_that_fails_is_status_1_and_leaves_no_file(tmp_path: Path) -> None:
    with serving(lambda asked: reply(b"", 500) if asked.method == "POST" else echo(asked)) as fake:
        assert 1 == run("infer", fake.url, f"--to={tmp_path / 'out.json'}")

    assert not (tmp_path / "out.json").exists()


ADMIN = {"/api/metrics": b"[1]", "/api/power": b"{}", "/api/logs": b"line", "/api/shutdown": b'{"status": "draining"}'}


def guarded(asked: Asked) -> Reply:
    """A server that wants a token."""
    if asked.headers.get("authorization") != "Bearer s3cret":
        return reply({"error": {"message": "Expected `Authorization: Bearer TOKEN`"}}, 401)
    return reply(ADMIN[asked.path])


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        ("metrics", "METRICS_OUTPUT"),
        ("power", "POWER_METRICS_OUTPUT"),
        ("logs", "SERVER_LOGS_OUTPUT"),
        ("shutdown", ""),
    ],
)
def test_the_server_s_business_is_asked_for_with_the_token(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    variable: str,
) -> None:
    with serving(guarded) as fake:
        assert 1 == run(command, fake.url)
        assert "hint: Set FORGE_ADMIN_TOKEN" in capsys.readouterr().err
        monkeypatch.setenv("FORGE_ADMIN_TOKEN", "s3cret")
        assert 0 == run(command, fake.url)
        assert ADMIN[f"/api/{command}"] == capsys.readouterr().out.strip().encode()
        if variable:
            monkeypatch.setenv(variable, str(tmp_path / "out"))
            assert 0 == run(command, fake.url)
            assert ADMIN[f"/api/{command}"] == (tmp_path / "out").read_bytes()

    assert {f"/api/{command}"} == {each.path for each in fake.asked}


@pytest.mark.parametrize(
    ("words", "expected"), [([], {"all": "True", "number": 1}), (["-n", "5"], {"all": "False", "number": 5})]
)
def test_metrics_are_asked_for_in_the_predecessors_words(words: list[str], expected: dict[str, object]) -> None:
    with serving(lambda asked: reply([])) as fake:
        assert 0 == run("metrics", fake.url, *words)

    assert [expected] == [each.json for each in fake.posted]


def test_the_token_goes_nowhere_else(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGE_ADMIN_TOKEN", "s3cret")

    assert 0 == run(fake.url, "--requests=2")
    assert 1 == run("metrics", fake.url, "--prometheus")
    assert "s3cret" not in repr(fake.asked)


@pytest.mark.parametrize("command", ["metrics", "shutdown", "infer"])
def test_a_server_that_is_gone_is_status_3_for_all(command: str) -> None:
    assert 3 == run(command, f"http://127.0.0.1:{unused_port()}")


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("", "infer", "metrics", "power", "logs", "shutdown"):
        with pytest.raises(SystemExit) as ended:
            main([*filter(None, [command]), "--help"])

        assert not ended.value.code
        assert "usage: python3 -m forge_client" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_at_once(number: signal.Signals) -> None:
    def script(asked: Asked) -> Reply:
        return Reply((), "hold") if asked.method == "POST" else echo(asked)

    with serving(script) as fake:
        line = [sys.executable, "-m", "forge_client", fake.url, "--prompt=a"]
        process = subprocess.Popen(
            line,
            env={**os.environ, "PYTHONPATH": str(RUNTIME)},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        while not fake.posted and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(number)
        said = process.communicate(timeout=20)

    assert (130, ("", "forge_client: interrupted\n")) == (process.returncode, said)
