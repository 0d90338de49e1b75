"""Conversations as prompts, by the template that the model brings.

A template is a program of whoever made the model, in Jinja's language. It runs in Jinja's sandbox, as it does under
transformers: it sees the messages, two tokens and the time, and reaches nothing else. Steps of `range` and the text
that it makes have a measure; against one that is written to waste memory there is none, as there is for weights.

BOS: a template may write the token that begins every text, and the backends tokenise with special tokens added, so
that it would stand there twice. transformers and vLLM tokenise what a template wrote without adding any; llama.cpp
adds them and takes the written one away. As the backends do here what llama.cpp does, for prompts of any origin, so
does this: a leading BOS goes if, and only if, the tokenizer adds one. (GLM 4.5 writes one that is never added.)
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from forge_runtime import log
from forge_runtime.chat_file import Source, read_source
from forge_runtime.config import ModelConfig
from forge_runtime.error import LoadError, RequestError

if TYPE_CHECKING:
    # A model without a template is served without the library.
    from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["ChatTemplate", "JinjaTemplate", "Message", "PlainTemplate", "Rendered", "load_template"]

logger = logging.getLogger(__name__)

MAX_OUTPUT: Final = 2**24
"""Characters of a prompt."""
MAX_STEPS: Final = 10**5
"""Of all `range` of one rendering together; the sandbox allows as many for each, so their product in nested loops."""
SHOWN: Final = 200

Message = Mapping[str, str]
"""`role` and `content`, perhaps `name` and `tool_call_id`."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text."""

    text: str
    """Up to where the assistant's next words begin."""
    stop: tuple[str, ...] = ()
    """Texts that end those words, where the model has no token for it."""


class ChatTemplate(Protocol):
    """The form that a model knows conversations in."""

    def render(self, messages: Sequence[Message]) -> Rendered:
        """Return the prompt; raise RequestError for messages that the form has no place for."""
        ...


def load_template(model: ModelConfig, now: Callable[[], datetime] = datetime.now) -> ChatTemplate:
    """Read the template from the model's weights, or take a plain one where there is none."""
    source = read_source(model)
    return PlainTemplate() if source is None else JinjaTemplate(source, now)


class PlainTemplate:
    """A line for each message, for models that were never shown conversations."""

    def render(self, messages: Sequence[Message]) -> Rendered:
        """Return `role: content` lines, and the beginning of the assistant's."""
        lines = [f"{message['role']}: {message['content']}\n" for message in messages]
        return Rendered("".join([*lines, "assistant:"]), ("\nuser:",))


class JinjaTemplate:
    """A template of the model's own."""

    def __init__(self, source: Source, now: Callable[[], datetime]) -> None:
        try:
            environment = _environment(now)
        except ImportError as error:
            raise LoadError(
                f"{source.place}: The model has a chat template, which needs jinja2; add `jinja2` to the image"
            ) from error
        try:
            self._template = environment.from_string(source.template)
        except Exception as error:  # beside syntax errors, whatever a program of strange shape makes Python raise
            raise LoadError(f"{source.place}: The chat template cannot be read: {error}") from error
        self._tokens = {"bos_token": source.bos_token, "eos_token": source.eos_token}
        self._added = source.bos_token if source.adds_bos else ""

    def render(self, messages: Sequence[Message]) -> Rendered:
        """Return what the template makes of the messages, for an answer to follow."""
        try:
            text = _join(
                self._template.generate(
                    messages=[dict(message) for message in messages],
                    # Templates ask for these two by `is not none`: undefined, they would be there.
                    tools=None,
                    documents=None,
                    add_generation_prompt=True,
                    range=_Range(),
                    **self._tokens,
                )
            )
            text.encode()  # a lone surrogate, as a literal may be, is no character
        except RequestError:
            raise
        except Exception as error:
            reason = f"The chat template failed: {type(error).__name__}: {str(error)[:SHOWN]}"
            log.event(logger, logging.ERROR, reason, error=error)
            message = "The model's chat template failed on these messages; the log has the reason"
            raise RequestError(message, status=500, code="internal_error") from error
        text = text.removeprefix(self._added)
        if not text:
            raise RequestError("The model's chat template makes nothing of these messages", param="messages")
        return Rendered(text)


def _environment(now: Callable[[], datetime]) -> ImmutableSandboxedEnvironment:
    """Make what templates are written for: the environment of transformers' `apply_chat_template`."""
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """Marks what was generated, for training; here it is text like any other."""

        tags = {"generation"}  # noqa: RUF012 - not annotated in the base class

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: now().strftime(form)
    return environment


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as it is: Jinja's own filter is for HTML, and escapes `<`, `>`, `&` and `'`."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: object) -> None:
    text = str(message)[:SHOWN].encode("utf-8", "replace").decode()
    raise RequestError(f"The model's chat template refuses the messages: {text}", param="messages")


class _Range:
    """`range`, with one measure of steps for a whole rendering."""

    def __init__(self) -> None:
        self._left = MAX_STEPS

    def __call__(self, *bounds: int) -> range:
        found = range(*bounds)
        self._left -= len(found)
        if self._left < 0:
            raise OverflowError(f"More than {MAX_STEPS} steps of `range`")
        return found


def _join(parts: Iterable[str]) -> str:
    found, size = [], 0
    for part in parts:
        found.append(part)
        size += len(part)
        if size > MAX_OUTPUT:
            raise RequestError(
                f"The messages make a prompt of more than {MAX_OUTPUT} characters",
                param="messages",
                code="context_length_exceeded",
            )
    return "".join(found)
