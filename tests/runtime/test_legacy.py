"""The predecessors' endpoints beside `/api/infer`: metrics, logs, shutdown."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest

from forge_runtime import log
from forge_runtime.config import Config, Identity
from forge_runtime.journal import Journal
from forge_runtime.record import Record
from tests.runtime.fake import Client, FakeBackend, Reply, make_config, serving

TOKEN = "t0ken"


def guarded() -> Config:
    return make_config(server={"logs": True, "shutdown": True, "admin_token": TOKEN})  # type: ignore[dict-item]


@pytest.fixture
def client() -> Iterator[Client]:
    with serving(FakeBackend()) as client:
        yield client


@pytest.fixture
def guarded_client() -> Iterator[Client]:
    tail = log.Tail()
    root = logging.getLogger()
    level = root.level
    root.addHandler(tail)
    root.setLevel(logging.INFO)
    with serving(FakeBackend(), guarded(), tail=tail) as client:
        yield client
    root.removeHandler(tail)
    root.setLevel(level)


def ask(client: Client, path: str, value: object = None, token: str = "") -> Reply:
    body = b"" if value is None else json.dumps(value).encode()
    return client.send("POST", path, body, {"authorization": f"Bearer {token}"} if token else {})


def metrics(client: Client, value: object) -> list[dict[str, object]]:
    reply = ask(client, "/api/metrics", value)
    assert reply.status == 200, reply.body
    document = reply.json
    assert isinstance(document, list)
    return document


def test_metrics_of_texts_are_cecaiserves_with_what_is_fixed_first(client: Client) -> None:
    client.infer("one", "two")

    fixed, settings, once, entry = metrics(client, {"all": "True"})

    assert (fixed["platform"], fixed["model"]) == ("cpu_llm_trf", "tiny")
    assert settings["batch_size"] == 2
    assert set(once) == {"load", "warm_up"}
    assert (entry["dataset_size"], entry["generated_tokens"], entry["prompt_tokens"]) == (2, 4, 6)
    assert datetime.fromisoformat(str(entry["timestamp"])).tzinfo is not None
    latencies = ("total_latency", "preprocessing_latency", "inference_latency", "postprocessing_latency")
    assert all(isinstance(entry[name], float) for name in latencies)


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({"all": "True"}, 3),
        ({"all": True}, 3),
        ({"all": "True", "number": 1}, 3),
        ({"all": "False", "number": 2}, 2),
        ({"number": 9}, 3),
    ],
)
def test_as_many_requests_are_told_of_as_asked(client: Client, asked: object, count: int) -> None:
    for prompt in "abc":
        client.infer(prompt)

    assert len(metrics(client, asked)[3:]) == count


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({}, "number"),
        ({"all": "False"}, "number"),
        ({"number": 0}, "number"),
        ({"number": "2"}, "number"),
        ({"all": "yes"}, "all"),
        ({"all": []}, "all"),
        ({"al": "True", "number": 1}, "al"),
        ([], None),
    ],
)
def test_a_wrong_question_is_refused(client: Client, asked: object, param: str | None) -> None:
    reply = ask(client, "/api/metrics", asked)

    assert (reply.status, reply.error["param"]) == (400, param)


def test_a_refused_request_is_no_entry(client: Client) -> None:
    client.post(b"{")

    assert metrics(client, {"all": True})[3:] == []


def test_secrets_are_in_no_metrics(guarded_client: Client) -> None:
    assert TOKEN not in json.dumps(metrics(guarded_client, {"all": True}))


@pytest.mark.parametrize("path", ["/api/logs", "/api/shutdown"])
def test_what_needs_a_token_is_not_there_unless_asked_for(client: Client, path: str) -> None:
    assert ask(client, path, {}, TOKEN).status == 404


@pytest.mark.parametrize("path", ["/api/logs", "/api/shutdown"])
@pytest.mark.parametrize("token", ["", "wrong", "t0ke"])
def test_a_wrong_token_is_refused(guarded_client: Client, path: str, token: str) -> None:
    reply = ask(guarded_client, path, {}, token)

    assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert guarded_client.get("/readyz").status == 200


def test_logs_are_a_tail(guarded_client: Client) -> None:
    guarded_client.infer("one")

    lines = ask(guarded_client, "/api/logs", {"lines": 2}, TOKEN).body.decode().splitlines()

    assert len(lines) == 2
    assert json.loads(lines[-1])["message"] == "Answered"


def test_shutdown_drains_and_ends_with_0(guarded_client: Client) -> None:
    assert ask(guarded_client, "/api/shutdown", None, TOKEN).json == {"status": "draining"}
    guarded_client.join()

    assert guarded_client.status == [0]


def test_metrics_of_pictures_are_tf2aifs_with_what_is_fixed_last() -> None:
    journal = Journal(10)
    steps = {"decode": 0.001, "preprocess": 0.002, "queue": 9.0, "infer": 0.004, "postprocess": 0.0005}
    steps["encode"] = 0.0005
    journal.add(Record("id", "/api/infer", 200, 1_700_000_000.5, 9.1, steps, items=4, batch_size=8))
    config = replace(make_config(), identity=Identity("app", "net:1", "cnn", "lat", "CPU", "n1"))

    entry, once = journal.document(config, {"load": 1.0, "warm_up": 0.1}, None, "tf2aif", 1_600_000_000.0)

    assert once == {"load": 1.0, "warm_up": 0.1, "NUM_THREADS": 0}
    assert entry["app_UID"] == "app:net-1:cnn:CPU:lat"
    assert entry["instance_UID"] == "app:net-1:cnn:CPU:lat:1600000000000"
    assert [entry[f"{name}_latency"] for name in ("execution", "processing", "data_preparation")] == [1.0, 2.0, 1.0]
    assert (entry["throughput"], entry["timestamp"], len(entry)) == (500.0, 1_700_000_000_500, 16)


def test_the_journal_is_bounded() -> None:
    journal = Journal(3)
    for number in range(10):
        journal.add(Record(str(number), "/api/infer", 200, 0.0, 0.1, items=1))

    assert [record.request_id for record in journal.last(None)] == ["7", "8", "9"]
