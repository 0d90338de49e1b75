"""`/v1/completions` and `/v1/chat/completions`, at once or as a stream of tokens."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

from forge_client.call import Asking, Call, Collector, Tally, answer_of, grouped
from forge_client.connection import Message, Response
from forge_client.dataset import Dataset, Payloads, Prompts
from forge_client.error import RequestFailed, UsageFault
from forge_client.event_stream import EventStream
from forge_client.value import read_json, table_of

__all__ = ["TokenStream", "openai_calls"]

Kind = Literal["completions", "chat"]
PATHS: Mapping[Kind, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


def openai_calls(kind: Kind, asking: Asking, dataset: Dataset) -> list[Call]:
    """Make the requests of a data set."""
    if kind == "chat" and asking.batch != 1:
        raise UsageFault("A chat is one request", "Leave `--batch` out, or take `--api completions`")
    if isinstance(dataset, Payloads):
        return [_call(kind, asking, dict(body), _choices(body)) for body in dataset.bodies]
    if not isinstance(dataset, Prompts):
        raise UsageFault(f"`--api {kind}` takes prompts", "Send files with `--api infer`, tensors with `--api oip`")
    options = _options(dataset.gen)
    calls = []
    for group in grouped(dataset.prompts, asking.batch):
        if kind == "chat":
            asked: dict[str, object] = {"messages": [{"role": "user", "content": group[0]}]}
        else:
            asked = {"prompt": group[0] if len(group) == 1 else list(group)}
        calls.append(_call(kind, asking, {**asked, **options}, len(group)))
    return calls


def _choices(body: Mapping[str, object]) -> int:
    """Count the answers that a body asks for."""
    prompt, each = body.get("prompt"), body.get("n")
    prompts = len(prompt) if isinstance(prompt, list) and all(isinstance(text, str) for text in prompt) else 1
    return prompts * (each if type(each) is int and each > 0 else 1)


def _options(gen: Mapping[str, object]) -> dict[str, object]:
    """Say `gen` in OpenAI's words."""
    found: dict[str, object] = {}
    for name, value in gen.items():
        if name in ("temperature", "top_p", "seed"):
            found.setdefault(name, value)
        elif name == "max_new_tokens":
            found["max_tokens"] = value
        elif name == "do_sample" and value is False:
            found["temperature"] = 0
        elif name != "do_sample":
            raise UsageFault(f"`gen.{name}` of the data set has no counterpart there", "Take `--api infer`")
    return found


def _call(kind: Kind, asking: Asking, body: dict[str, object], items: int) -> Call:
    if asking.model:
        body["model"] = asking.model
    if asking.max_tokens is not None:
        body["max_tokens"] = asking.max_tokens
    body.pop("stream", None)
    if asking.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    data = json.dumps(body, ensure_ascii=False).encode()
    message = Message.make(asking.address, "POST", PATHS[kind], body=data, headers=asking.headers)
    collect = partial(TokenStream, items, asking.check) if asking.stream else None
    return Call(message, partial(_judge, items, asking.check), collect)


def _judge(items: int, check: bool, response: Response) -> Tally:
    if not check:
        return Tally(items)
    answer = answer_of(response)
    choices = answer.get("choices")
    texts = [_text(table_of(each)) for each in choices] if isinstance(choices, list) else []
    if len([text for text in texts if text is not None]) != items:
        raise RequestFailed("answer", f"{len(texts)} answers to {items} prompts")
    return Tally(items, *_usage(answer))


def _text(choice: Mapping[str, object]) -> str | None:
    """Take the text of a choice, whole or a piece of it; None where it has none."""
    value = choice.get("text")
    for name in ("message", "delta"):
        if name in choice:
            table = table_of(choice[name])
            # A call of a tool, or thinking, is an answer too.
            value = table.get("content") or table.get("reasoning_content")
            if value is None and table.get("tool_calls"):
                value = json.dumps(table["tool_calls"])
            if value is None and name == "message":
                value = ""
    return value if isinstance(value, str) else None


def _usage(answer: Mapping[str, object]) -> tuple[int | None, int | None]:
    usage = table_of(answer.get("usage"))
    asked, made = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return (asked if type(asked) is int else None, made if type(made) is int else None)


class TokenStream(Collector):
    """The events of one streamed answer."""

    def __init__(self, items: int, check: bool = True) -> None:
        self.first: float | None = None
        self.gaps: array[float] = array("d")
        self._items, self._check = items, check
        self._events = EventStream()
        self._last: dict[object, float] = {}
        self._unfinished = set(range(items))
        self._pieces = 0
        self._usage: tuple[int | None, int | None] = (None, None)
        self._done = False

    def feed(self, piece: bytes, at: float) -> None:
        """Take a piece of the body."""
        try:
            for data in self._events.feed(piece):
                self._take(data, at)
        except ValueError as error:
            raise RequestFailed("answer", f"An event of the stream is not JSON: {error}") from error

    def tally(self, response: Response) -> Tally:
        """Judge the whole stream."""
        if response.body:
            kind = response.header("content-type") or "nothing"
            raise RequestFailed("answer", f"Asked for a stream of events, got {kind}")
        if not self._done:
            raise RequestFailed("truncated", "The stream ends without `[DONE]`")
        if self._check and self._unfinished:
            done = self._items - len(self._unfinished)
            raise RequestFailed("answer", f"{done} finished answers to {self._items} prompts")
        asked, made = self._usage
        return Tally(self._items, asked, self._pieces if made is None else made, estimated=made is None)

    def _take(self, data: bytes, at: float) -> None:
        if data == b"[DONE]":
            self._done = True
            return
        event = table_of(read_json(data))
        if event.get("error"):
            told = table_of(event["error"]).get("message")
            raise RequestFailed("stream_error", f"The stream ends with an error: {told or event['error']}")
        if event.get("usage"):
            self._usage = _usage(event)
        choices = event.get("choices")
        for choice in map(table_of, choices if isinstance(choices, Sequence) else ()):
            index = choice.get("index", 0)
            if _text(choice):
                self._token(index, at)
            if choice.get("finish_reason"):
                self._unfinished.discard(index if type(index) is int else -1)

    def _token(self, index: object, at: float) -> None:
        self._pieces += 1
        if self.first is None:
            self.first = at
        if index in self._last:
            self.gaps.append(at - self._last[index])
        self._last[index] = at
