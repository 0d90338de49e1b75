"""OpenAI's protocol: what is asked for, and what is answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge_runtime import Generation, RequestError, Sampling
from forge_runtime.chat import PlainTemplate
from forge_runtime.config import Params
from forge_runtime.http import openai_answer
from forge_runtime.http.openai import Call, CompletionRequest, check_model, parse_chat, parse_completion

PARAMS = Params(max_length=100, temperature=0.7, top_p=0.9)
CALL = Call("gpt2", "r1", 1700000000, max_items=16)
HI = [{"role": "user", "content": "Hi"}]
BIG = 2**63

Parse = Callable[..., CompletionRequest]


def completion(params: Params = PARAMS, **body: Any) -> CompletionRequest:
    return parse_completion(json.dumps({"model": "gpt2", "prompt": "Hi", **body}).encode(), params, CALL)


def chat(params: Params = PARAMS, **body: Any) -> CompletionRequest:
    return parse_chat(json.dumps({"model": "gpt2", "messages": HI, **body}).encode(), params, CALL, PlainTemplate())


BOTH = pytest.mark.parametrize("parse", [completion, chat])


def test_a_completion_takes_the_services_defaults_and_openais_length() -> None:
    asked = completion()

    assert ("completion", 1, "gpt2", "cmpl-r1", 1700000000, False, False) == (
        *(asked.kind, asked.n, asked.model, asked.id, asked.created),
        *(asked.stream, asked.include_usage),
    )
    assert ("Hi",) == asked.request.prompts
    assert Sampling(100, 16, 0.7, 0.9, do_sample=False) == asked.request.sampling


def test_a_chat_may_fill_the_context_and_stops_where_its_template_says() -> None:
    asked = chat()

    assert ("chat", "chatcmpl-r1") == (asked.kind, asked.id)
    assert ("user: Hi\nassistant:",) == asked.request.prompts
    assert Sampling(100, None, 0.7, 0.9, do_sample=False, stop=("\nuser:",)) == asked.request.sampling


@pytest.mark.parametrize(
    ("body", "sampling"),
    [
        ({"temperature": 0}, {"temperature": 0, "do_sample": False}),
        ({"temperature": 1}, {"temperature": 1, "do_sample": True}),
        ({"temperature": 2.0, "top_p": 0.5}, {"temperature": 2, "top_p": 0.5, "do_sample": True}),
        ({"top_p": 0.5}, {"top_p": 0.5, "do_sample": True}),
        ({"top_p": 1}, {"top_p": 1}),
        ({"temperature": None, "top_p": None, "stop": None, "seed": None, "n": None}, {}),
        ({"seed": 0}, {"seed": 0}),
        ({"seed": BIG - 1}, {"seed": BIG - 1}),
        ({"seed": -1}, {"seed": BIG - 1}),
        ({"seed": -BIG}, {"seed": 0}),
        ({"max_tokens": 1}, {"max_new_tokens": 1}),
        ({"max_tokens": 100}, {"max_new_tokens": 100}),
        ({"max_tokens": None}, {"max_new_tokens": 16}),
        ({"stop": "\n"}, {"stop": ("\n",)}),
        ({"stop": []}, {}),
        ({"stop": [str(number) for number in range(16)]}, {"stop": tuple(map(str, range(16)))}),
    ],
    ids=json.dumps,
)
def test_what_is_asked_for_stands_before_the_defaults(body: dict[str, Any], sampling: dict[str, Any]) -> None:
    assert replace(completion().request.sampling, **sampling) == completion(**body).request.sampling


@pytest.mark.parametrize(
    ("params", "body", "drawn", "temperature"),
    [
        (Params(do_sample=True, temperature=0.5), {}, True, 0.5),
        (Params(do_sample=True, temperature=0.5), {"temperature": 0}, False, 0),
        (Params(temperature=0), {"top_p": 0.5}, True, 1.0),
        (Params(temperature=0), {"top_p": 1}, False, 0),
    ],
)
def test_drawing_is_asked_for_by_temperature_or_top_p(
    params: Params, body: dict[str, Any], drawn: bool, temperature: float
) -> None:
    sampling = chat(params, **body).request.sampling

    assert (drawn, temperature) == (sampling.do_sample, sampling.temperature)


def test_a_small_context_bounds_the_length_that_nobody_named() -> None:
    assert 8 == completion(Params(max_length=8)).request.sampling.max_new_tokens


@pytest.mark.parametrize(
    ("body", "length"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 7, "max_completion_tokens": 7}, 7),
        ({"max_tokens": None, "max_completion_tokens": 8}, 8),
    ],
)
def test_a_chats_length_has_two_names(body: dict[str, Any], length: int) -> None:
    assert length == chat(**body).request.sampling.max_new_tokens


@pytest.mark.parametrize(
    ("body", "prompts"),
    [
        ({"prompt": ["a", "b"]}, ("a", "b")),
        ({"prompt": ["a", "b"], "n": 2}, ("a", "a", "b", "b")),
        ({"prompt": "é\0\n", "n": 2, "best_of": 2}, ("é\0\n", "é\0\n")),
        ({"prompt": ["a"] * 16}, ("a",) * 16),
    ],
)
def test_prompts_are_repeated_for_their_choices(body: dict[str, Any], prompts: tuple[str, ...]) -> None:
    assert prompts == completion(**body).request.prompts


def test_a_chat_is_repeated_for_its_choices() -> None:
    assert 8 == len(chat(n=8).request.prompts)


@BOTH
@pytest.mark.parametrize(
    ("body", "stream", "include_usage"),
    [
        ({"stream": False, "stream_options": None}, False, False),
        ({"stream": True}, True, False),
        ({"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}, True, True),
        ({"stream": True, "stream_options": {"include_usage": None}}, True, False),
    ],
)
def test_a_stream_may_count_its_tokens(parse: Parse, body: dict[str, Any], stream: bool, include_usage: bool) -> None:
    asked = parse(**body)

    assert (stream, include_usage) == (asked.stream, asked.include_usage)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", ""),
        ([{"type": "text", "text": "a"}], "a"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": ""}, {"text": "b", "type": "text"}], "a\n\nb"),
    ],
)
def test_a_message_is_a_text_or_parts_of_one(content: object, text: str) -> None:
    asked = chat(messages=[{"role": "developer", "content": content}])

    assert (f"system: {text}\nassistant:",) == asked.request.prompts


def test_an_answer_may_be_sent_back_as_it_came() -> None:
    nothing: dict[str, Any] = dict.fromkeys(("refusal", "audio", "function_call", "name"))
    said: dict[str, Any] = {"role": "assistant", "content": "Hello", "tool_calls": [], "annotations": [], **nothing}

    asked = chat(messages=[*HI, said, {"role": "tool", "content": "7", "tool_call_id": "c", "name": "sum"}])

    assert ("user: Hi\nassistant: Hello\ntool: 7\nassistant:",) == asked.request.prompts


NEUTRAL: Mapping[str, object] = {
    "presence_penalty": 0.0,
    "frequency_penalty": 0,
    "logit_bias": {},
    "service_tier": "auto",
    "logprobs": False,
    **dict.fromkeys(("user", "store", "metadata", "safety_identifier", "prompt_cache_key"), "x"),
}


NEUTRAL_COMPLETION: list[dict[str, Any]] = [{"echo": False}, {"suffix": ""}, {"best_of": 1}, {"suffix": None}]
NEUTRAL_CHAT: list[dict[str, Any]] = [
    *({"top_logprobs": 0}, {"response_format": {"type": "text"}}, {"tools": []}, {"tool_choice": "auto"}),
    *({"functions": []}, {"function_call": "none"}, {"modalities": ["text"]}, {"parallel_tool_calls": True}),
    *({"verbosity": "medium"}, {"audio": None}, {"reasoning_effort": "none"}, {"no_such_key": None}),
]


@pytest.mark.parametrize(
    ("parse", "body"),
    [
        *[(parse, {key: value}) for parse in (completion, chat) for key, value in NEUTRAL.items()],
        *[(completion, body) for body in NEUTRAL_COMPLETION],
        *[(chat, body) for body in NEUTRAL_CHAT],
    ],
)
def test_what_changes_nothing_is_taken(parse: Parse, body: dict[str, Any]) -> None:
    assert parse() == parse(**body)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"n": 0}, "n", "whole number from 1 to 8"),
    ({"n": 9}, "n", "whole number from 1 to 8"),
    ({"temperature": 2.1}, "temperature", "number from 0 to 2"),
    ({"temperature": -1}, "temperature", "number from 0 to 2"),
    ({"temperature": 0.001}, "temperature", "at least 0.01"),
    ({"temperature": "1"}, "temperature", "number from 0 to 2"),
    ({"top_p": 1.1}, "top_p", "number from 0 to 1"),
    ({"max_tokens": 0}, "max_tokens", "from 1 to 100"),
    ({"max_tokens": 101}, "max_tokens", "from 1 to 100"),
    ({"seed": BIG}, "seed", "whole number"),
    ({"seed": 1.0}, "seed", "whole number"),
    ({"stop": ""}, "stop", "strings of 1 to 256"),
    ({"stop": ["a", ""]}, "stop", "strings of 1 to 256"),
    ({"stop": "x" * 257}, "stop", "strings of 1 to 256"),
    ({"stop": ["a"] * 17}, "stop", "at most 16"),
    ({"stop": [1]}, "stop", "strings"),
    ({"stop": {}}, "stop", "a string or a list"),
    ({"stop": "\ud800"}, "stop", "lone surrogates"),
    ({"stream": "yes"}, "stream", "true or false"),
    ({"stream_options": {}}, "stream_options", "without `stream: true`"),
    ({"stream": True, "stream_options": []}, "stream_options", "Expected an object"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage", "true or false"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation", "only"),
    ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "Unknown key"),
    ({"presence_penalty": 0.1}, "presence_penalty", "Cannot be honoured here; only `0`"),
    ({"presence_penalty": False}, "presence_penalty", "only `0`"),
    ({"frequency_penalty": -1}, "frequency_penalty", "only `0`"),
    ({"logit_bias": {"50256": -100}}, "logit_bias", "only `{}`"),
    ({"logprobs": True}, "logprobs", "only `false`"),
    ({"logprobs": 0}, "logprobs", "only `false`"),
    ({"service_tier": "flex"}, "service_tier", 'only `"auto"` and `"default"`'),
    ({"temprature": 1}, "temprature", "did you mean `temperature`"),
    ({"top_k": 1}, "top_k", "did you mean `top_p`"),
    ({"zzz": 1}, "zzz", "known are [model, "),
    ({"model": 7}, "model", "Expected a string"),
]
REFUSED_COMPLETION: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": ""}, "prompt", "not empty"),
    ({"prompt": []}, "prompt", "not empty"),
    ({"prompt": None}, "prompt", "Expected a string or a list"),
    ({"prompt": {"a": 1}}, "prompt", "Expected a string or a list"),
    ({"prompt": [1, 2]}, "prompt", "numbers of tokens"),
    ({"prompt": [[1, 2]]}, "prompt", "numbers of tokens"),
    ({"prompt": ["a", ""]}, "prompt.1", "not empty"),
    ({"prompt": ["a", None]}, "prompt.1", "not empty"),
    ({"prompt": "\udc00"}, "prompt", "lone surrogates"),
    ({"prompt": ["a"] * 17}, "prompt", "17 texts in one answer, at most 16"),
    ({"prompt": ["a"] * 3, "n": 6}, "n", "18 texts in one answer, at most 16"),
    ({"best_of": 2}, "best_of", "expected as many as `n`, 1"),
    ({"n": 2, "best_of": 1}, "best_of", "expected as many as `n`, 2"),
    ({"echo": True}, "echo", "only `false`"),
    ({"suffix": "x"}, "suffix", 'only `""`'),
    ({"messages": HI}, "messages", "Unknown key"),
    ({"max_completion_tokens": 5}, "max_completion_tokens", "did you mean `max_tokens`"),
]
PARTS = [{"type": "text", "text": "x"}]
REFUSED_CHAT: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": []}, "messages", "1 to 1024"),
    ({"messages": None}, "messages", "1 to 1024"),
    ({"messages": "Hi"}, "messages", "1 to 1024"),
    ({"messages": HI * 1025}, "messages", "1 to 1024"),
    ({"messages": ["Hi"]}, "messages.0", "Expected an object"),
    ({"messages": [*HI, {"role": "user"}]}, "messages.1.content", "Expected a string, or parts"),
    ({"messages": [{"content": "Hi"}]}, "messages.0.role", "Missing"),
    ({"messages": [{**HI[0], "role": "function"}]}, "messages.0.role", "one of [developer, system, user"),
    ({"messages": [{**HI[0], "role": 1}]}, "messages.0.role", "one of"),
    ({"messages": [{**HI[0], "content": 7}]}, "messages.0.content", "Expected a string, or parts"),
    ({"messages": [{**HI[0], "content": "\ud800"}]}, "messages.0.content", "lone surrogates"),
    ({"messages": [{**HI[0], "content": []}]}, "messages.0.content", "Expected 1 to 64 parts, got 0"),
    ({"messages": [{**HI[0], "content": PARTS * 65}]}, "messages.0.content", "Expected 1 to 64 parts, got 65"),
    ({"messages": [{**HI[0], "content": ["x"]}]}, "messages.0.content.0", "Expected an object"),
    ({"messages": [{**HI[0], "content": [{"type": "text"}]}]}, "messages.0.content.0.text", "Missing"),
    ({"messages": [{**HI[0], "content": [{**PARTS[0], "text": 1}]}]}, "messages.0.content", "Expected a string"),
    (
        {"messages": [{**HI[0], "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages.0.content.0.text",
        "messages.0.content.0.type: Expected one of [text], got `image_url`",
    ),
    ({"messages": [{**HI[0], "tool_calls": [{}]}]}, "messages.0.tool_calls", "only `[]`"),
    ({"messages": [{**HI[0], "audio": {"id": "x"}}]}, "messages.0.audio", "leave it out"),
    ({"messages": [{**HI[0], "name": 7}]}, "messages.0.name", "Expected a string"),
    ({"messages": [{**HI[0], "nam": "x"}]}, "messages.0.nam", "did you mean `name`"),
    ({"messages": [{**HI[0], **{str(key): 1 for key in range(63)}}]}, "messages.0", "65 keys, at most 64"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "Differs"),
    ({"top_logprobs": 2}, "top_logprobs", "only `0`"),
    ({"response_format": {"type": "json_object"}}, "response_format", 'only `{"type": "text"}`'),
    ({"tools": [{"type": "function"}]}, "tools", "only `[]`"),
    ({"tool_choice": "required"}, "tool_choice", "only"),
    ({"functions": [{}]}, "functions", "only `[]`"),
    ({"modalities": ["text", "audio"]}, "modalities", 'only `["text"]`'),
    ({"prediction": {}}, "prediction", "leave it out"),
    ({"reasoning_effort": "high"}, "reasoning_effort", "only"),
    ({"prompt": "Hi"}, "prompt", "Unknown key"),
]


@pytest.mark.parametrize(
    ("parse", "body", "param", "reason"),
    [
        *[(completion, *each) for each in (*REFUSED, *REFUSED_COMPLETION)],
        *[(chat, *each) for each in (*REFUSED, *REFUSED_CHAT)],
    ],
    ids=lambda value: getattr(value, "__name__", str(value))[:60],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    parse: Parse, body: dict[str, Any], param: str, reason: str
) -> None:
    with pytest.raises(RequestError) as caught:
        parse(**body)

    assert (400, param) == (caught.value.status, caught.value.param)
    assert reason in caught.value.message


@BOTH
def test_all_faults_are_told_at_once(parse: Parse) -> None:
    with pytest.raises(RequestError, match=r"n: .*; temperature: .*; echoes: ") as caught:
        parse(temperature=9, n=0, echoes=True)

    assert "n" == caught.value.param


@BOTH
@pytest.mark.parametrize("name", ["gpt-4", "", "GPT2", "\ud800" * 99])
def test_another_model_is_not_found(parse: Parse, name: str) -> None:
    with pytest.raises(RequestError, match="served is `gpt2`") as caught:
        parse(model=name, n=0)

    assert (404, "model", "model_not_found") == (caught.value.status, caught.value.param, caught.value.code)
    assert caught.value.message.isascii()


@BOTH
def test_a_model_need_not_be_named(parse: Parse) -> None:
    assert "gpt2" == parse(model=None).model


def test_the_served_model_is_found() -> None:
    check_model("org/gpt2", "org/gpt2")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"prompt": NaN}', "invalid_json"),
        (b"[" * 10**5, "invalid_json"),
        (b'{"n": ' + b"1" * 5000 + b"}", "invalid_json"),
        (b'{"prompt": "\xff"}', "invalid_utf8"),
        (b"[]", "invalid_value"),
        (b"null", "invalid_value"),
        (b'"Hi"', "invalid_value"),
        (json.dumps(dict.fromkeys(map(str, range(65)), 1)).encode(), "invalid_value"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_object_is_refused(body: bytes, code: str) -> None:
    refusals: list[Callable[[], object]] = [
        lambda: parse_completion(body, PARAMS, CALL),
        lambda: parse_chat(body, PARAMS, CALL, PlainTemplate()),
    ]
    for refused in refusals:
        with pytest.raises(RequestError) as caught:
            refused()

        assert (400, code) == (caught.value.status, caught.value.code)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 200) | st.floats(-1, 3) | st.text(max_size=4) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
PARTS_OF_TEXT = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=4)}), max_size=3)
MESSAGE = st.fixed_dictionaries({"role": ROLES, "content": st.text(max_size=4) | PARTS_OF_TEXT})
USUAL = {
    "model": st.just("gpt2"),
    "n": st.integers(1, 9) | st.none(),
    "temperature": st.floats(0, 2) | st.integers(0, 2) | st.none(),
    "top_p": st.floats(0, 1),
    "max_tokens": st.integers(1, 100),
    "seed": st.integers(-BIG, BIG - 1),
    "stop": st.text(min_size=1, max_size=3) | st.lists(st.text(min_size=1, max_size=3), max_size=4),
    "stream": st.booleans(),
    "user": JSON,
}
"""What mostly makes a request; `STRANGE` are put over it."""
NAMES = st.sampled_from([*USUAL, "prompt", "messages", "stream_options", "logit_bias", "logprobs", "tools"])
STRANGE = st.dictionaries(NAMES | st.text(max_size=3), JSON, max_size=2)
BODIES = st.builds(
    dict[str, Any].__or__,
    st.fixed_dictionaries({"prompt": st.text(max_size=4), "messages": st.lists(MESSAGE, max_size=3)}, optional=USUAL),
    st.just({}) | STRANGE,
)


@settings(max_examples=50, deadline=None)
@given(BODIES)
def test_any_body_is_refused_or_makes_a_request(body: dict[str, Any]) -> None:
    for key, parse in (("prompt", completion), ("messages", chat)):
        mine = {name: value for name, value in body.items() if name not in ("prompt", "messages") or name == key}
        try:
            asked = parse(**mine)
        except RequestError as error:
            assert error.status in (400, 404)
            openai_answer.error_event(error)
            continue
        sampling = asked.request.sampling
        assert 1 <= len(asked.request.prompts) <= CALL.max_items
        assert all(prompt.encode() for prompt in asked.request.prompts)
        assert all(stop.encode() for stop in sampling.stop)
        assert 0 <= sampling.temperature <= 2
        assert sampling.max_new_tokens is None or 1 <= sampling.max_new_tokens <= 100


@settings(max_examples=30, deadline=None)
@given(JSON)
def test_json_of_any_shape_is_refused(value: object) -> None:
    body = json.dumps(value).encode()
    with pytest.raises(RequestError):
        parse_completion(body, PARAMS, CALL)
    with pytest.raises(RequestError):
        parse_chat(body, PARAMS, CALL, PlainTemplate())


def result(text: str, tokens: int = 3, **others: Any) -> Generation:
    return Generation(text, 5, tokens, **{"finish_reason": "stop", **others})


def events(stream: bytes) -> list[Any]:
    """Read a stream as a client does that splits lines by Python's rules."""
    lines = stream.decode().splitlines()

    assert not any(lines[1::2])
    assert all(line.startswith("data: ") for line in lines[::2])
    return [json.loads(line[6:]) for line in lines[::2]]


def test_a_completion_has_a_choice_for_each_text() -> None:
    asked = completion(prompt=["a", "b"], n=2)
    results = [result("1"), result("2", 4, finish_reason="length"), result("3"), result("4", finish_reason="cancelled")]

    body = json.loads(openai_answer.answer(asked, results))

    assert ["1", "2", "3", "4"] == [choice["text"] for choice in body["choices"]]
    assert [0, 1, 2, 3] == [choice["index"] for choice in body["choices"]]
    assert ["stop", "length", "stop", "length"] == [choice["finish_reason"] for choice in body["choices"]]


@BOTH
def test_a_prompt_is_counted_once_for_all_its_choices(parse: Parse) -> None:
    results = [result("1"), result("2", 4)]

    body = json.loads(openai_answer.answer(parse(n=2), results))

    assert {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12} == body["usage"]


def test_a_chats_answer_is_a_message() -> None:
    body = json.loads(openai_answer.answer(chat(), [result("é")]))

    assert {
        "id": "chatcmpl-r1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "gpt2",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "é", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
    } == body


def test_text_is_sent_as_it_is() -> None:
    assert '"é<\U0001f600"'.encode() in openai_answer.answer(completion(), [result("é<\U0001f600")])


@BOTH
@pytest.mark.parametrize("text", ["a\nb\r\n\n", "\x85\u2028\u2029\x1c\x0b", '"}\\', "data: [DONE]\n\n"])
def test_no_text_ends_an_event(parse: Parse, text: str) -> None:
    (event,) = events(openai_answer.text_chunk(parse(), 0, text))

    (choice,) = event["choices"]
    assert text == (choice["text"] if "text" in choice else choice["delta"]["content"])


def test_a_chats_stream_says_first_who_speaks() -> None:
    asked = chat(n=2, stream=True)

    first = events(openai_answer.first_chunks(asked))
    (last,) = events(openai_answer.finish_chunk(asked, 1, "cancelled"))

    assert [(0, "assistant"), (1, "assistant")] == [
        (event["choices"][0]["index"], event["choices"][0]["delta"]["role"]) for event in first
    ]
    assert [{"index": 1, "delta": {}, "logprobs": None, "finish_reason": "length"}] == last["choices"]


def test_a_completions_stream_begins_with_its_text() -> None:
    assert b"" == openai_answer.first_chunks(completion(stream=True))


@BOTH
def test_where_tokens_are_counted_every_event_has_the_field(parse: Parse) -> None:
    asked = parse(stream=True, stream_options={"include_usage": True})
    stream = openai_answer.text_chunk(asked, 0, "x") + openai_answer.usage_chunk(asked, [result("x")])

    text, usage = events(stream)

    assert (None, 8, []) == (text["usage"], usage["usage"]["total_tokens"], usage["choices"])
    assert "usage" not in events(openai_answer.text_chunk(parse(stream=True), 0, "x"))[0]


def test_a_failure_after_the_beginning_is_an_event() -> None:
    error = RequestError("No \u2028 answer", status=504, code="deadline_exceeded")

    (event,) = events(openai_answer.error_event(error))

    assert {
        "error": {"message": "No \u2028 answer", "type": "server_error", "param": None, "code": "deadline_exceeded"}
    } == event
