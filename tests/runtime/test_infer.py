"""POST /api/infer: what comes back for what is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from forge_runtime import BaseServer, Request, RequestError, Sampling
from forge_runtime.config import Params
from tests.runtime.fake import Client, FakeBackend, make_config, serving


@pytest.fixture(scope="module")
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture(scope="module")
def client(backend: FakeBackend) -> Iterator[Client]:
    with serving(backend) as client:
        yield client


def test_prompts_are_paired_with_their_texts(client: Client) -> None:
    reply = client.infer("one", "two")

    assert reply.json == {"one": "ONE", "two": "TWO"}


def test_one_prompt_may_be_a_string(client: Client) -> None:
    assert client.post(b'{"prompts": "one"}').json == {"one": "ONE"}


@pytest.mark.parametrize("content_type", ["", "text/plain", "text/plain; charset=utf-8"])
def test_a_raw_body_is_one_prompt(client: Client, content_type: str) -> None:
    assert client.post("grüße\n".encode(), content_type).json == {"grüße\n": "GRÜSSE\n"}


def test_plain_text_that_looks_like_json_is_a_prompt(client: Client) -> None:
    assert client.post(b"[]", "text/plain").json == {"[]": "[]"}


def test_json_needs_no_content_type(client: Client) -> None:
    assert client.post(b'{"prompts": "one"}', "").json == {"one": "ONE"}


def test_a_prompt_that_came_twice_gets_a_list(client: Client) -> None:
    assert client.infer("one", "two", "one").json == {"one": ["ONE", "ONE"], "two": "TWO"}


def test_more_prompts_than_batch_size_are_split(client: Client, backend: FakeBackend) -> None:
    del backend.batches[:]

    client.infer("a", "b", "c", "d", "e")

    assert backend.batches == [("a", "b"), ("c", "d"), ("e",)]


def test_in_latency_mode_prompts_are_run_one_by_one() -> None:
    backend = FakeBackend()
    config = make_config(params=Params(batch_size=2, max_length=128))
    with serving(backend, replace(config, server=replace(config.server, mode="latency"))) as client:
        del backend.batches[:]

        client.infer("a", "b")

    assert backend.batches == [("a",), ("b",)]


def test_details_carry_tokens(client: Client) -> None:
    expected = {
        "text": "ONE",
        "prompt_tokens": 3,
        "generated_tokens": 2,
        "token_ids": [1, 2],
        "finish_reason": "stop",
    }

    assert client.infer("one", details=True).json == {"one": expected}


def test_gen_reaches_the_backend(client: Client, backend: FakeBackend) -> None:
    gen = {
        "max_length": 64,
        "max_new_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "do_sample": True,
        "seed": 7,
    }

    client.infer("one", gen=gen)

    sampling = backend.samplings[-1]
    assert {name: getattr(sampling, name) for name in gen} == gen


def test_each_prompt_of_a_seeded_request_has_a_seed_of_its_own(client: Client, backend: FakeBackend) -> None:
    client.infer("a", "b", "c", gen={"seed": 7})

    assert [sampling.seed for sampling in backend.samplings[-3:]] == [7, 8, 9]


@pytest.mark.parametrize(
    ("gen", "param"),
    [
        ({"max_length": 129}, "gen.max_length"),
        ({"max_length": 0}, "gen.max_length"),
        ({"max_length": True}, "gen.max_length"),
        ({"max_new_tokens": 1.5}, "gen.max_new_tokens"),
        ({"temperature": -1, "do_sample": True}, "gen.temperature"),
        ({"temperature": 1e-30, "do_sample": True}, "gen.temperature"),
        ({"temperature": "1", "do_sample": True}, "gen.temperature"),
        ({"temperature": 0.5}, "gen.temperature"),
        ({"top_p": 0.5}, "gen.top_p"),
        ({"top_p": 2, "do_sample": True}, "gen.top_p"),
        ({"do_sample": 1}, "gen.do_sample"),
        ({"seed": -1}, "gen.seed"),
        ({"seed": None}, "gen.seed"),
        ({"top_q": 1}, "gen.top_q"),
        ([], "gen"),
        (None, "gen"),
    ],
    ids=str,
)
def test_a_wrong_gen_is_refused_by_name(client: Client, gen: object, param: str) -> None:
    reply = client.infer("one", gen=gen)

    assert (reply.status, reply.error["param"]) == (400, param)


def test_every_response_has_an_id(client: Client) -> None:
    replies = [client.infer("one"), client.get("/nowhere"), client.post(b"[]")]

    assert len({reply.headers["x-request-id"] for reply in replies}) == 3


def test_the_clients_own_id_is_kept(client: Client) -> None:
    reply = client.send("GET", "/healthz", headers={"x-request-id": "abc-1"})

    assert reply.headers["x-request-id"] == "abc-1"


def test_an_id_that_is_none_is_replaced(client: Client) -> None:
    reply = client.send("GET", "/healthz", headers={"x-request-id": 'a"b' * 100})

    assert len(reply.headers["x-request-id"]) == 32


def test_metrics_count_requests_steps_and_tokens() -> None:
    with serving(FakeBackend()) as client:
        client.infer("one", "two")
        client.post(b"[]")
        client.get("/somewhere/1")

        assert client.metric('forge_requests_total{path="/api/infer",status="200"}') == 1
        assert client.metric('forge_requests_total{path="/api/infer",status="400"}') == 1
        assert client.metric('forge_requests_total{path="other",status="404"}') == 1
        assert client.metric("forge_prompt_tokens_total") == 6
        assert client.metric("forge_generated_tokens_total") == 4
        assert client.metric("forge_ready") == 1
        assert client.metric("forge_requests_in_flight") == 0
        for step in ("load", "warm_up", "preprocess", "infer", "postprocess", "encode", "queue"):
            assert client.metric(f'forge_step_seconds_count{{step="{step}"}}') == 1
        assert client.metric('forge_step_seconds_count{step="decode"}') == 2


class Shouting(BaseServer):
    """Overrides what a handler may."""

    media_type = "text/plain"

    def preprocess(self, request: Request) -> Request:
        if "forbidden" in request.prompts:
            raise RequestError("Not here", status=422, param="prompts", code="forbidden")
        return Request(tuple(f"{p}!" for p in request.prompts), request.sampling)

    def encode(self, answer: object) -> bytes:
        return json.dumps(answer).encode() + b"\n"


@pytest.fixture(scope="module")
def shouting() -> Iterator[Client]:
    with serving(FakeBackend(), handler=Shouting) as client:
        yield client


def test_hooks_of_a_handler_are_used(shouting: Client) -> None:
    reply = shouting.infer("one")

    assert reply.body == b'{"one": "ONE!"}\n'
    assert reply.headers["content-type"].startswith("text/plain")


def test_a_handler_refuses_a_request_with_a_status_of_its_own(shouting: Client) -> None:
    reply = shouting.infer("forbidden")

    assert (reply.status, reply.error["code"]) == (422, "forbidden")


class Broken(BaseServer):
    """Returns what is no response."""

    def postprocess(self, request: Request, results: object) -> object:
        return float("nan") if request.prompts == ("nan",) else object()


def test_an_answer_that_cannot_be_encoded_is_an_error_of_the_server() -> None:
    with serving(FakeBackend(), handler=Broken) as client:
        assert [client.infer("nan").status, client.infer("object").status] == [500, 500]


def test_sampling_defaults_are_the_params() -> None:
    params = Params(batch_size=4, max_length=32, temperature=0.3, top_p=0.4, do_sample=True)
    own = FakeBackend()
    with serving(own, make_config(params=params)) as client:
        client.infer("one")

    sampling = own.samplings[-1]
    assert sampling == Sampling(max_length=32, temperature=0.3, top_p=0.4, do_sample=True)
