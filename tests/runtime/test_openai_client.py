"""OpenAI's own client against the codecs: it asks, they read; they answer, it reads."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from forge_runtime import Generation, RequestError
from forge_runtime.chat import PlainTemplate
from forge_runtime.config import Params
from forge_runtime.http import openai_answer
from forge_runtime.http.openai import Call, CompletionRequest, check_model, parse_chat, parse_completion
from forge_runtime.http.refusal import error_response

CALL = Call("gpt2", "r1", 1700000000)
HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
RESULTS = [Generation(" Grüße,\u2028du", 2, 3, (), "stop"), Generation(" yo", 2, 1, (), "length")]


def serve(request: httpx2.Request) -> httpx2.Response:
    """Answer as the routes do, without a model."""
    try:
        return httpx2.Response(200, content=respond(request.url.path, request.content))
    except RequestError as error:
        refusal = error_response(error)
        return httpx2.Response(refusal.status_code, content=bytes(refusal.body), headers=dict(refusal.headers))


def respond(path: str, body: bytes) -> bytes:
    if path == "/v1/models":
        return openai_answer.models("gpt2", 1700000000, 1024)
    if path.startswith("/v1/models/"):
        check_model(path.removeprefix("/v1/models/"), "gpt2")
        return openai_answer.model("gpt2", 1700000000, 1024)
    if path == "/v1/completions":
        asked = parse_completion(body, Params(), CALL)
    else:
        asked = parse_chat(body, Params(), CALL, PlainTemplate())
    results = RESULTS[: len(asked.request.prompts)]
    return stream(asked, results) if asked.stream else openai_answer.answer(asked, results)


def stream(asked: CompletionRequest, results: list[Generation]) -> bytes:
    parts = [openai_answer.first_chunks(asked)]
    for index, result in enumerate(results):
        parts += [openai_answer.text_chunk(asked, index, text) for text in (result.text[:3], result.text[3:])]
        parts.append(openai_answer.finish_chunk(asked, index, result.finish_reason))
    if asked.request.sampling.seed == 13:
        error = RequestError("No answer within 1 s", status=504, code="deadline_exceeded")
        return b"".join([*parts, openai_answer.error_event(error)])
    if asked.include_usage:
        parts.append(openai_answer.usage_chunk(asked, results))
    return b"".join([*parts, openai_answer.DONE])


def connect(respond: Callable[[httpx2.Request], httpx2.Response] = serve) -> openai.OpenAI:
    http_client = httpx2.Client(transport=httpx2.MockTransport(respond))
    return openai.OpenAI(api_key="none", base_url="http://forge/v1", max_retries=0, http_client=http_client)


@pytest.fixture(scope="module")
def client() -> openai.OpenAI:
    return connect()


def test_a_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="gpt2", prompt="Hi", n=2, max_tokens=3, temperature=0, stop=["\n"])

    assert ("cmpl-r1", "text_completion", "gpt2", 1700000000) == (
        *(answer.id, answer.object),
        *(answer.model, answer.created),
    )
    assert [(0, RESULTS[0].text, "stop"), (1, " yo", "length")] == [
        (choice.index, choice.text, choice.finish_reason) for choice in answer.choices
    ]
    assert answer.usage is not None
    assert (2, 4, 6) == (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens)


def test_a_chat_whose_answer_is_sent_back(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt2", messages=HI, max_completion_tokens=3)
    message = answer.choices[0].message

    again = client.chat.completions.create(model="gpt2", messages=[*HI, message.to_dict()])  # type: ignore[list-item]

    assert ("chatcmpl-r1", "chat.completion", "stop") == (again.id, again.object, again.choices[0].finish_reason)
    assert ("assistant", RESULTS[0].text, None) == (message.role, message.content, message.refusal)


def test_a_streamed_completion(client: openai.OpenAI) -> None:
    chunks = list(client.completions.create(model="gpt2", prompt="Hi", stream=True))

    assert RESULTS[0].text == "".join(chunk.choices[0].text for chunk in chunks)
    assert [None, None, "stop"] == [chunk.choices[0].finish_reason for chunk in chunks]
    assert [None] * 3 == [chunk.usage for chunk in chunks]


def test_a_streamed_chat(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="gpt2", messages=HI, n=2, stream=True, stream_options={"include_usage": True}
        )
    )

    *spoken, usage = chunks
    texts = ["", ""]
    for chunk in spoken:
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
    assert [result.text for result in RESULTS] == texts
    assert {"chat.completion.chunk"} == {chunk.object for chunk in chunks}
    assert ["assistant", "assistant"] == [chunk.choices[0].delta.role for chunk in spoken[:2]]
    assert ["stop", "length"] == [c.choices[0].finish_reason for c in spoken if c.choices[0].finish_reason]
    assert usage.usage is not None
    assert ([], 2, 4) == (usage.choices, usage.usage.prompt_tokens, usage.usage.completion_tokens)


def test_a_stream_that_fails_raises_in_the_client(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError, match="No answer within 1 s") as caught:
        list(client.chat.completions.create(model="gpt2", messages=HI, seed=13, stream=True))

    assert ("deadline_exceeded", "server_error") == (caught.value.code, caught.value.type)


def test_models(client: openai.OpenAI) -> None:
    (listed,) = client.models.list()

    assert client.models.retrieve("gpt2") == listed
    assert ("gpt2", "model", "forge", 1700000000) == (listed.id, listed.object, listed.owned_by, listed.created)
    assert {"max_model_len": 1024} == listed.model_extra


def test_a_refusal_is_the_clients_exception(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="gpt2", messages=HI, presence_penalty=1, extra_body={"top_k": 5})

    assert ("presence_penalty", "invalid_value") == (caught.value.param, caught.value.code)
    assert "top_k: Unknown key" in caught.value.message


@pytest.mark.parametrize("ask", ["chat", "retrieve"])
def test_another_model_is_the_clients_exception(client: openai.OpenAI, ask: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        if ask == "chat":
            client.chat.completions.create(model="gpt-4", messages=HI)
        else:
            client.models.retrieve("gpt-4")

    assert ("model", "model_not_found", "invalid_request_error") == (
        *(caught.value.param, caught.value.code),
        caught.value.type,
    )


@pytest.mark.parametrize(
    ("status", "kind", "name"),
    [
        (429, openai.RateLimitError, "rate_limit_error"),
        (500, openai.InternalServerError, "server_error"),
        (503, openai.InternalServerError, "server_error"),
    ],
)
def test_a_busy_or_broken_server_is_the_clients_exception(
    status: int, kind: type[openai.APIStatusError], name: str
) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        refusal = error_response(RequestError("Not now", status=status, code="queue_full"))
        return httpx2.Response(status, content=bytes(refusal.body))

    with pytest.raises(kind) as caught:
        connect(refuse).completions.create(model="gpt2", prompt="Hi")

    assert ("queue_full", name) == (caught.value.code, caught.value.type)
