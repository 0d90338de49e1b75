"""What OpenAI's clients get: whole answers, and the events of a stream."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from forge_runtime.backend import FinishReason, Generation
from forge_runtime.error import RequestError
from forge_runtime.http.openai import CompletionRequest
from forge_runtime.http.refusal import error_response

__all__ = [
    "DONE",
    "answer",
    "error_event",
    "finish_chunk",
    "first_chunks",
    "model",
    "models",
    "text_chunk",
    "usage_chunk",
]

DONE: Final = b"data: [DONE]\n\n"
"""Ends a stream."""

OBJECTS: Final = {"completion": "text_completion", "chat": "chat.completion"}
CHUNKS: Final = {"completion": "text_completion", "chat": "chat.completion.chunk"}

REASONS: Final = {"stop": "stop", "length": "length", "cancelled": "length"}
"""A text that was broken off is not whole, which `stop` would say it is."""

# No ends of lines to the protocol, but to clients that split as Python's `str.splitlines` does.
LINE_ENDS: Final = {ord(char): f"\\u{ord(char):04x}" for char in "\x85\u2028\u2029"}


def answer(asked: CompletionRequest, results: Sequence[Generation]) -> bytes:
    """Return the body of an answer that is not streamed."""
    choices = [_choice(asked, index, result) for index, result in enumerate(results)]
    return _json({**_head(asked, OBJECTS[asked.kind]), "choices": choices, "usage": _usage(asked, results)}).encode()


def first_chunks(asked: CompletionRequest) -> bytes:
    """Return what a stream begins with: for a chat, who speaks in each choice."""
    if asked.kind == "completion":
        return b""
    opened = {"role": "assistant", "content": "", "refusal": None}
    return b"".join(_chunk(asked, index, {"delta": opened}) for index in range(len(asked.request.prompts)))


def text_chunk(asked: CompletionRequest, index: int, text: str) -> bytes:
    """Return the event of some more text for a choice."""
    return _chunk(asked, index, {"text": text} if asked.kind == "completion" else {"delta": {"content": text}})


def finish_chunk(asked: CompletionRequest, index: int, reason: FinishReason) -> bytes:
    """Return the event of a choice that is complete."""
    return _chunk(asked, index, {"text": ""} if asked.kind == "completion" else {"delta": {}}, REASONS[reason])


def usage_chunk(asked: CompletionRequest, results: Sequence[Generation]) -> bytes:
    """Return the event with the count of tokens, the last where a client asks for it."""
    return _event({**_head(asked, CHUNKS[asked.kind]), "choices": [], "usage": _usage(asked, results)})


def error_event(error: RequestError) -> bytes:
    """Return the event of a failure after the stream has begun; nothing follows it."""
    return _event(json.loads(bytes(error_response(error).body)))


def models(name: str, created: int, max_length: int) -> bytes:
    """Return the list of the one model."""
    return _json({"object": "list", "data": [_model(name, created, max_length)]}).encode()


def model(name: str, created: int, max_length: int) -> bytes:
    """Return what is known of the model; `check_model` says whether that is meant."""
    return _json(_model(name, created, max_length)).encode()


def _model(name: str, created: int, max_length: int) -> dict[str, object]:
    # The last is not OpenAI's but vLLM's: tokens of prompt and text.
    return {"id": name, "object": "model", "created": created, "owned_by": "forge", "max_model_len": max_length}


def _head(asked: CompletionRequest, kind: str) -> dict[str, object]:
    return {"id": asked.id, "object": kind, "created": asked.created, "model": asked.model}


def _choice(asked: CompletionRequest, index: int, result: Generation) -> dict[str, object]:
    said: dict[str, object] = {"text": result.text}
    if asked.kind == "chat":
        said = {"message": {"role": "assistant", "content": result.text, "refusal": None}}
    return {"index": index, **said, "logprobs": None, "finish_reason": REASONS[result.finish_reason]}


def _usage(asked: CompletionRequest, results: Sequence[Generation]) -> dict[str, int]:
    # A prompt is read once, however many choices it has.
    prompts = sum(result.prompt_tokens for result in results[:: asked.n])
    texts = sum(result.generated_tokens for result in results)
    return {"prompt_tokens": prompts, "completion_tokens": texts, "total_tokens": prompts + texts}


def _chunk(asked: CompletionRequest, index: int, said: dict[str, object], reason: str | None = None) -> bytes:
    choice = {"index": index, **said, "logprobs": None, "finish_reason": reason}
    # Where the count is asked for, all events have the field.
    usage = {"usage": None} if asked.include_usage else {}
    return _event({**_head(asked, CHUNKS[asked.kind]), "choices": [choice], **usage})


def _event(value: object) -> bytes:
    return f"data: {_json(value).translate(LINE_ENDS)}\n\n".encode()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
