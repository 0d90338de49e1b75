"""OpenAI's endpoints over HTTP, by OpenAI's own client."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from forge_runtime import BaseServer, Generation, Request
from forge_runtime.config import Params
from tests.runtime.fake import Client, FakeBackend, make_config, serving, wait_for

MODEL = "tiny"


@pytest.fixture(scope="module")
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture(scope="module")
def client(backend: FakeBackend) -> Iterator[Client]:
    params = Params(batch_size=4, batch_wait_ms=20, max_length=128)
    with serving(backend, make_config(params=params)) as client:
        yield client


def connect(client: Client) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{client.port}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def api(client: Client) -> Iterator[openai.OpenAI]:
    with connect(client) as api:
        yield api


def test_the_model_is_listed(api: openai.OpenAI) -> None:
    assert [model.id for model in api.models.list()] == [MODEL]
    assert api.models.retrieve(MODEL).id == MODEL


def test_a_prompt_is_completed(api: openai.OpenAI) -> None:
    completion = api.completions.create(model=MODEL, prompt="one two")

    (choice,) = completion.choices
    assert (choice.text, choice.finish_reason) == ("ONE TWO", "stop")
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (7, 2)


def test_several_prompts_keep_their_order(api: openai.OpenAI) -> None:
    completion = api.completions.create(model=MODEL, prompt=["a", "b", "a"], n=2)

    assert [choice.text for choice in completion.choices] == ["A", "A", "B", "B", "A", "A"]


def test_a_chat_is_answered(api: openai.OpenAI) -> None:
    answer = api.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])

    assert answer.choices[0].message.content == "USER: HI\nASSISTANT:"
    assert answer.choices[0].message.role == "assistant"


def test_a_completion_is_streamed(api: openai.OpenAI) -> None:
    chunks = list(api.completions.create(model=MODEL, prompt="one two three", stream=True))

    assert "".join(chunk.choices[0].text for chunk in chunks) == "ONE TWO THREE"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_chat_is_streamed_with_its_usage(api: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "stream_options": {"include_usage": True}}
    chunks = list(api.chat.completions.create(model=MODEL, stream=True, **asked))

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "USER: HI\nASSISTANT:"
    assert chunks[-1].usage.completion_tokens == 2


def test_what_is_refused_is_an_error_of_the_client(api: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        api.completions.create(model=MODEL, prompt="a", temperature=9)
    with pytest.raises(openai.NotFoundError) as missing:
        api.completions.create(model="gpt-5", prompt="a")

    assert bad.value.param == "temperature"
    assert missing.value.code == "model_not_found"


def test_a_stream_that_is_refused_before_its_first_text_has_a_status(api: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        list(api.completions.create(model=MODEL, prompt="!long", stream=True))

    assert caught.value.code == "context_length_exceeded"


def test_a_stream_that_fails_before_its_first_text_has_a_status(api: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError):
        list(api.completions.create(model=MODEL, prompt="!raise", stream=True))


def test_streams_of_one_batch_get_their_own_texts() -> None:
    backend = FakeBackend()
    params = Params(batch_size=4, batch_wait_ms=5000, max_length=128)
    with serving(backend, make_config(params=params)) as client, connect(client) as api:

        def read(prompt: str) -> str:
            stream = api.completions.create(model=MODEL, prompt=prompt, stream=True)
            return "".join(chunk.choices[0].text for chunk in stream)

        with ThreadPoolExecutor(4) as pool:
            texts = list(pool.map(read, ["a b", "c d", "e f", "g h"]))

        assert texts == ["A B", "C D", "E F", "G H"]
        assert len(backend.batches[-1]) == 4


def open_stream(client: Client, prompt: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    body = json.dumps({"prompt": prompt, "stream": True})
    connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
    return connection, connection.getresponse()


def test_a_client_that_leaves_a_stream_ends_its_generation() -> None:
    backend = FakeBackend()
    with serving(backend) as client:
        connection, response = open_stream(client, "!first !wait")
        assert response.status == 200
        assert response.readline().startswith(b"data: ")

        response.close()
        connection.close()

        assert backend.cancelled.wait(5)
        wait_for(lambda: client.metric("forge_requests_cancelled_total") == 1)
        assert client.metric("forge_requests_in_flight") == 0
        assert client.infer("one").json == {"one": "ONE"}


def test_a_stream_that_outlives_its_deadline_ends_with_an_error_event() -> None:
    with serving(FakeBackend(), make_config(server={"deadline_s": 0.3})) as client:
        connection, response = open_stream(client, "!first !wait")
        events = response.read().decode().split("\n\n")
        connection.close()

        assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
        assert client.infer("one").status == 200


def test_a_stream_is_drained(client: Client) -> None:
    backend = FakeBackend()
    with serving(backend) as other:
        connection, response = open_stream(other, "!first !wait")
        other.stop()
        backend.gate.set()

        assert response.read().decode().rstrip().endswith("data: [DONE]")
        connection.close()
        other.join()
        assert other.status == [0]


def test_a_handlers_preprocess_and_infer_act_here_too() -> None:
    class Handler(BaseServer):
        def preprocess(self, request: Request) -> Request:
            return Request(tuple(f"<{prompt}>" for prompt in request.prompts), request.sampling)

        def infer(self, request: Request) -> Sequence[Generation]:
            return [Generation(prompt * 2, 1, 1) for prompt in request.prompts]

    with serving(FakeBackend(), handler=Handler) as client, connect(client) as api:
        completion = api.completions.create(model=MODEL, prompt="a")
        streamed = list(api.completions.create(model=MODEL, prompt="a", stream=True))

        assert completion.choices[0].text == "<a><a>"
        assert "".join(chunk.choices[0].text for chunk in streamed) == "<a><a>"
