"""The messages of a chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from forge_runtime.chat import Message
from forge_runtime.error import Fault, RequestError
from forge_runtime.http.openai_field import Neutral, is_text, open_table, refuse_others
from forge_runtime.table import Table

__all__ = ["parse_messages"]

MAX_MESSAGES: Final = 1024
"""A template may look through all of them for each."""
MAX_PARTS: Final = 64
"""Of one message."""

# `developer` is OpenAI's newer name for it; of the templates that know it, all take this one for the same.
ROLES: Final = {"developer": "system", **{role: role for role in ("system", "user", "assistant", "tool")}}

NEUTRAL: Final[Neutral] = {
    "tool_calls": ([],),
    "annotations": ([],),
    **dict.fromkeys(("audio", "function_call", "refusal"), ()),
}
"""What an answer has beside its text, for clients that send it back."""


def parse_messages(table: Table) -> Sequence[Message]:
    """Read `messages`; their faults, up to the first message that has any, are noted in the table."""
    value = table.take("messages")
    if not isinstance(value, list) or not 0 < len(value) <= MAX_MESSAGES:
        raise RequestError(f"Expected a list of 1 to {MAX_MESSAGES} messages", param="messages")
    messages: list[Message] = []
    before = len(table.faults)
    for index, each in enumerate(value):
        messages.append(_message(each, f"messages.{index}", table.faults))
        if len(table.faults) > before:
            break
    return messages


def _message(value: object, place: str, faults: list[Fault]) -> Message:
    table = open_table(value, place, faults)
    table.require("role")
    message = {"role": table.choice("role", "", ROLES), "content": _content(table, place)}
    for key in ("name", "tool_call_id"):
        text = table.take(key)
        if text is None:
            continue
        if not is_text(text):
            faults.append(Fault(f"{place}.{key}", "Expected a string without lone surrogates"))
        message[key] = str(text)
    refuse_others(table, place, NEUTRAL)
    return message


def _content(table: Table, place: str) -> str:
    value = table.take("content")
    texts = _parts(value, f"{place}.content", table.faults) if isinstance(value, list) else [value]
    if not all(is_text(text) for text in texts):
        fault = "Expected a string, or parts of the type `text`, without lone surrogates"
        table.faults.append(Fault(f"{place}.content", fault))
    # Joined as vLLM and llama.cpp do.
    return "\n".join(str(text) for text in texts)


def _parts(values: Sequence[object], place: str, faults: list[Fault]) -> Sequence[object]:
    if not 0 < len(values) <= MAX_PARTS:
        faults.append(Fault(place, f"Expected 1 to {MAX_PARTS} parts, got {len(values)}"))
        return []
    texts: list[object] = []
    for index, each in enumerate(values):
        part = open_table(each, f"{place}.{index}", faults)
        part.require("type", "text")
        part.choice("type", "", {"text": "text"})
        texts.append(part.take("text"))
        part.close()
    return texts
