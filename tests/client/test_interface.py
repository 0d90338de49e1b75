"""What is asked in each interface, and which answers are good."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping

import pytest

from forge_client.call import Asking, Call
from forge_client.connection import Response
from forge_client.dataset import Dataset, File, Files, Payloads, Prompts, Tensor, Tensors
from forge_client.error import RequestFailed, UsageFault
from forge_client.infer import infer_calls
from forge_client.oip import Spec, oip_calls, specs_of
from forge_client.openai import TokenStream, openai_calls
from forge_client.sender import Retries, Sample, Sender
from tests.client.fake import QUICK, Asked, Reply, reply, serving, stream, token

MODEL = (Spec("A", "FP32", (-1, 2)), Spec("B", "INT64", (-1, 1)))


def sent(
    make: Callable[[Asking], list[Call]], script: Callable[[Asked], Reply], **asking: object
) -> tuple[Asked, Sample]:
    """Send the first request of a data set; what came to the server, and what became of it."""
    with serving(script) as fake:

        async def run() -> Sample:
            (call, *_) = make(Asking(fake.server.address, model="m", **asking))  # type: ignore[arg-type]
            sender = Sender(fake.server.connection(QUICK), Retries(0), random.Random(0))
            try:
                return await sender.send(call, asyncio.get_running_loop().time())
            finally:
                sender.close()

        sample = asyncio.run(run())
    return fake.asked[0], sample


def infer(dataset: Dataset, answer: object, **asking: object) -> tuple[Asked, Sample]:
    return sent(lambda a: infer_calls(a, dataset), lambda asked: reply(answer), **asking)


def test_prompts_go_to_infer_together() -> None:
    details = {"text": "x", "prompt_tokens": 2, "generated_tokens": 5}
    asked, sample = infer(Prompts(("a", "b"), {"temperature": 0}), {"a": details, "b": details}, batch=2, max_tokens=7)

    assert {"prompts": ["a", "b"], "gen": {"temperature": 0, "max_new_tokens": 7}, "details": True} == asked.json
    assert sample.tally is not None
    assert (2, 4, 10) == (sample.tally.items, sample.tally.prompt_tokens, sample.tally.generated_tokens)


def test_a_server_that_knows_no_details_is_not_asked_for_tokens() -> None:
    _, sample = infer(Prompts(("a",)), {"a": "text"})

    assert sample.tally is not None and sample.tally.generated_tokens is None


def test_a_prompt_that_came_twice_has_two_answers() -> None:
    _, good = infer(Prompts(("a", "a")), {"a": ["x", "y"]}, batch=2)
    _, bad = infer(Prompts(("a", "a")), {"a": "x"}, batch=2)

    assert ("", "answer", "0 answers to 2 prompts") == (good.kind, bad.kind, bad.text)


@pytest.mark.parametrize("answer", [{}, {"b": "x"}, {"a": 1}, {"a": ["x"]}, {"a": "x", "b": "y"}, [], b"x", b""])
def test_what_does_not_answer_the_prompts_is_not_good(answer: object) -> None:
    _, sample = infer(Prompts(("a",)), answer)

    assert "answer" == sample.kind


def test_unless_nobody_looks() -> None:
    _, sample = infer(Prompts(("a",)), b"whatever", check=False)

    assert "" == sample.kind


def test_a_file_goes_as_it_is() -> None:
    asked, sample = infer(Files((File("a.zip", b"\x00zip", "application/zip", 3),)), {"1": []})

    assert (b"\x00zip", "application/zip") == (asked.body, asked.headers["content-type"])
    assert sample.tally is not None and sample.tally.items == 3


@pytest.mark.parametrize(("body", "kind"), [(b"", "answer"), (b"{", "answer"), (b"{}", "")])
def test_the_answer_to_a_file_is_something(body: bytes, kind: str) -> None:
    _, sample = infer(Files((File("a.png", b"x", "image/png"),)), body)

    assert kind == sample.kind


def completion(*texts: str) -> dict[str, object]:
    usage = {"prompt_tokens": 3, "completion_tokens": 8}
    return {"choices": [{"index": n, "text": text} for n, text in enumerate(texts)], "usage": usage}


def test_a_completion_at_once() -> None:
    asked, sample = sent(
        lambda a: openai_calls("completions", a, Prompts(("a", "b"), {"do_sample": False, "max_new_tokens": 3})),
        lambda asked: reply(completion("x", "y")),
        stream=False,
        batch=2,
    )

    assert ("/v1/completions", {"prompt": ["a", "b"], "model": "m", "temperature": 0, "max_tokens": 3}) == (
        asked.path, asked.json,
    )  # fmt: skip
    assert sample.tally is not None
    assert (2, 3, 8, None) == (
        sample.tally.items, sample.tally.prompt_tokens, sample.tally.generated_tokens, sample.first,
    )  # fmt: skip


def test_a_chat_at_once() -> None:
    answer = {"choices": [{"message": {"role": "assistant", "content": "x"}}]}
    asked, sample = sent(lambda a: openai_calls("chat", a, Prompts(("a",))), lambda asked: reply(answer), stream=False)

    assert ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "model": "m"}) == (
        asked.path, asked.json,
    )  # fmt: skip
    assert "" == sample.kind


def test_too_few_choices_are_no_answer() -> None:
    _, sample = sent(
        lambda a: openai_calls("completions", a, Prompts(("a", "b"))),
        lambda asked: reply(completion("x")),
        stream=False,
        batch=2,
    )

    assert ("answer", "1 answers to 2 prompts") == (sample.kind, sample.text)


def streamed(*events: object, gap: float = 0.0, **asking: object) -> tuple[Asked, Sample]:
    return sent(
        lambda a: openai_calls("completions", a, Prompts(("a", "b"))), lambda asked: stream(events, gap=gap), **asking
    )


def test_a_stream_tells_when_its_tokens_came() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 3}}
    asked, sample = streamed(token(""), token("x"), token("y"), token("z", finish="stop"), usage, "[DONE]", gap=0.03)

    assert {"prompt": "a", "model": "m", "stream": True, "stream_options": {"include_usage": True}} == asked.json
    assert sample.first is not None and sample.tally is not None
    assert 0.06 <= sample.first - sample.due < sample.ended - sample.due
    assert 2 == len(sample.gaps)
    assert 0.05 <= sum(sample.gaps) < 0.5
    assert (3, False) == (sample.tally.generated_tokens, sample.tally.estimated)


def test_tokens_of_a_server_that_does_not_count_are_its_events() -> None:
    _, sample = streamed(token("x"), token("y", finish="length"), "[DONE]")

    assert sample.tally is not None
    assert (2, True) == (sample.tally.generated_tokens, sample.tally.estimated)


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ((token("x", finish="stop"),), "truncated"),
        ((token("x"), "[DONE]"), "answer"),
        ((token("x", finish="stop", index=7), "[DONE]"), "answer"),
        ((token("x"), {"error": {"message": "Lost"}}), "stream_error"),
        (("{",), "answer"),
    ],
    ids=["no end", "no finish", "another's finish", "an error", "no JSON"],
)
def test_a_stream_that_is_not_whole_is_not_good(events: tuple[object, ...], kind: str) -> None:
    _, sample = streamed(*events)

    assert kind == sample.kind


def test_a_stream_that_is_cut_off_is_not_good() -> None:
    _, sample = sent(
        lambda a: openai_calls("completions", a, Prompts(("a",))), lambda asked: stream([token("x")], end="hang up")
    )

    assert "truncated" == sample.kind


def test_no_stream_where_one_was_asked_for_is_not_good() -> None:
    _, sample = sent(lambda a: openai_calls("completions", a, Prompts(("a",))), lambda asked: reply(completion("x")))

    assert ("answer", "Asked for a stream of events, got application/json") == (sample.kind, sample.text)


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
def test_events_are_the_same_however_they_are_cut(size: int) -> None:
    data = b'data: {"choices": [{"index": 0, "text": "x"}]}\r\n\r\n: ping\n\ndata: {"choices": [{"index": 0,\n' + (
        b'data: "text": "y", "finish_reason": "stop"}]}\n\nevent: end\ndata: [DONE]\n\n'
    )
    found = TokenStream(1)
    for place in range(0, len(data), size):
        found.feed(data[place : place + size], float(place))

    assert 2 == found.tally(Response(200, [], b"")).generated_tokens


def test_each_choice_of_a_stream_has_its_own_gaps() -> None:
    found = TokenStream(2)
    for at, text in enumerate(("ab", "ab", "a")):
        for index in range(len(text)):
            data = f'data: {{"choices": [{{"index": {index}, "text": "x", "finish_reason": "stop"}}]}}\n\n'
            found.feed(data.encode(), at + index / 10)

    assert [1.0, 1.0, 1.0] == pytest.approx(list(found.gaps))


def test_a_payload_is_sent_as_it_is_but_for_model_and_stream() -> None:
    payload = {"prompt": ["a", "b"], "n": 2, "stream": False, "model": "other"}
    asked, sample = sent(
        lambda a: openai_calls("completions", a, Payloads((payload,))),
        lambda asked: reply(completion("1", "2", "3", "4")),
        stream=False,
    )

    assert {"prompt": ["a", "b"], "n": 2, "model": "m"} == asked.json
    assert sample.tally is not None and sample.tally.items == 4


def rows(*values: Mapping[str, Tensor]) -> Tensors:
    return Tensors(values)


def outputs(*tensors: tuple[str, list[int], list[object]]) -> dict[str, object]:
    named = [{"name": n, "datatype": "FP32", "shape": shape, "data": data} for n, shape, data in tensors]
    return {"model_name": "m", "outputs": named}


def oip(
    dataset: Dataset | None, answer: object, specs: tuple[Spec, ...] = MODEL, **asking: object
) -> tuple[Asked, Sample]:
    return sent(lambda a: oip_calls(a, specs, dataset), lambda asked: reply(answer), **asking)


GOOD = outputs(("Y", [1, 1], [0.5]))


def test_a_row_takes_type_and_shape_from_the_model() -> None:
    asked, sample = oip(rows({"A": Tensor((1.5, 2)), "B": Tensor((3,))}), GOOD)

    assert "/v2/models/m/infer" == asked.path
    assert {
        "inputs": [
            {"name": "A", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2]},
            {"name": "B", "datatype": "INT64", "shape": [1, 1], "data": [3]},
        ]
    } == asked.json
    assert "" == sample.kind


def test_rows_are_stacked() -> None:
    row = {"A": Tensor((1, 2), None, (2,)), "B": Tensor((), (3).to_bytes(8, "little"))}
    asked, sample = oip(rows(row, row, row), GOOD, batch=2)

    assert {
        "inputs": [
            {"name": "A", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 1, 2]},
            {"name": "B", "datatype": "INT64", "shape": [2, 1], "data": [3, 3]},
        ]
    } == asked.json
    assert sample.tally is not None and sample.tally.items == 2


def test_without_data_zeros_are_sent() -> None:
    asked, _ = oip(None, GOOD, (Spec("A", "BOOL", (-1, 2)), Spec("T", "BYTES", (1,))))

    assert {
        "inputs": [
            {"name": "A", "datatype": "BOOL", "shape": [1, 2], "data": [False, False]},
            {"name": "T", "datatype": "BYTES", "shape": [1], "data": [""]},
        ]
    } == asked.json


def test_prompts_go_to_a_model_that_takes_a_text() -> None:
    asked, _ = oip(Prompts(("a",)), GOOD, (Spec("T", "BYTES", (-1, 1)),))

    assert {"inputs": [{"name": "T", "datatype": "BYTES", "shape": [1, 1], "data": ["a"]}]} == asked.json


def test_texts_come_out_of_their_bytes() -> None:
    data = b"\x02\x00\x00\x00ab\x00\x00\x00\x00"
    asked, _ = oip(rows({"T": Tensor((), data, (2,))}), GOOD, (Spec("T", "BYTES", (2,)),))

    assert {"inputs": [{"name": "T", "datatype": "BYTES", "shape": [2], "data": ["ab", ""]}]} == asked.json


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"A": Tensor((1, 2))}, "has no values for the inputs [B]"),
        ({"A": Tensor((1, 2)), "B": Tensor((1,)), "C": Tensor((1,))}, "The model has no input [C], it has [A, B]"),
        ({"A": Tensor((1, 2, 3)), "B": Tensor((1,))}, "`A` has 3 values, which do not fill its shape [1, 2]"),
        ({"A": Tensor((1, 2), None, (1, 1, 2)), "B": Tensor((1,))}, "`A` takes a shape like [-1, 2]"),
        ({"A": Tensor(("x", "y")), "B": Tensor((1,))}, "`A` takes FP32, the data set has `'x'`"),
        ({"A": Tensor((), b"abc"), "B": Tensor((1,))}, "`A`: 3 bytes are no FP32, each has 4"),
        ({"A": Tensor((), b"\x00\x00\xc0\x7f" * 2), "B": Tensor((1,))}, "A tensor cannot be written as JSON"),
    ],
)
def test_a_row_that_the_model_does_not_take_is_told_before_anything_is_sent(
    row: dict[str, Tensor], expected: str
) -> None:
    with pytest.raises(UsageFault) as error:
        oip(rows(row), GOOD)

    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [({}, "answer"), ({"outputs": []}, "answer"), (outputs(("Y", [1, 2], [0.5])), "answer"), (GOOD, "")],
)
def test_an_answer_has_outputs_that_fill_their_shapes(answer: object, kind: str) -> None:
    assert kind == oip(None, answer)[1].kind


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        (Tensor((0.5000001,)), ""),
        (Tensor((), b"\x00\x00\x00\x3f"), ""),
        (Tensor((0.6,)), "wrong"),
        (Tensor((0.5, 0.5)), "wrong"),
    ],
)
def test_an_answer_is_what_validation_data_says(wanted: Tensor, kind: str) -> None:
    dataset = Tensors(({"A": Tensor((1, 2)), "B": Tensor((3,))},), ({"Y": wanted},))

    assert kind == oip(dataset, GOOD)[1].kind


def test_metadata_without_inputs_is_told() -> None:
    assert (Spec("A", "FP32", (-1, 2)),) == specs_of(
        {"inputs": [{"name": "A", "datatype": "FP32", "shape": ["-1", 2]}]}
    )
    with pytest.raises(UsageFault):
        specs_of({"name": "m"})


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda a: infer_calls(a, rows({"A": Tensor((1,))})), "--api oip"),
        (lambda a: openai_calls("chat", a, Files(())), "--api infer"),
        (lambda a: openai_calls("completions", a, Prompts(("a",), {"max_length": 3})), "--api infer"),
        (lambda a: oip_calls(a, MODEL, Prompts(("a",))), "--api"),
        (lambda a: oip_calls(a, MODEL, Files(())), "data"),
    ],
)
def test_data_that_does_not_fit_an_interface_is_told_with_a_remedy(
    make: Callable[[Asking], list[Call]], hint: str
) -> None:
    with pytest.raises(UsageFault) as error:
        sent(make, lambda asked: reply())

    assert hint in error.value.hint


def test_a_refusal_is_told_in_the_server_s_words() -> None:
    for body in ({"error": {"message": "Too long"}}, {"error": "Too long"}, {"detail": "Too long"}, b"Too long"):
        _, sample = sent(lambda a: infer_calls(a, Prompts(("a",))), lambda asked, body=body: reply(body, 400))  # type: ignore[misc]

        assert ("http_400", "Status 400: Too long") == (sample.kind, sample.text)


def test_an_event_without_end_is_given_up() -> None:
    found = TokenStream(1)
    with pytest.raises(RequestFailed, match="An event has more than 16 MiB"):
        for _ in range(18):
            found.feed(b"x" * (1 << 20), 0.0)
