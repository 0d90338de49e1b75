"""What OpenAI's clients ask for: the bodies of `/v1/completions` and `/v1/chat/completions`.

What a body asks for is honoured or refused by name. Of a parameter that is not served, the value that changes nothing
is taken, for clients that send their defaults; null is the same as not given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from forge_runtime.chat import ChatTemplate
from forge_runtime.config import Params, check_temperature
from forge_runtime.error import Fault, RequestError
from forge_runtime.http.openai_field import Neutral, is_text, open_table, refuse_others
from forge_runtime.http.openai_message import parse_messages
from forge_runtime.request import MAX_SEED, Request, Sampling
from forge_runtime.table import Table, parse_json

__all__ = ["Call", "CompletionRequest", "check_model", "parse_chat", "parse_completion"]

MAX_N: Final = 8
MAX_STOPS: Final = 16
MAX_STOP: Final = 256
"""Characters; a backend holds back as many, for they may be the beginning of one."""
MAX_TEMPERATURE: Final = 2
SHOWN: Final = 8
COMPLETION_TOKENS: Final = 16
"""Of a completion that names no number, as OpenAI has it."""

IGNORED: Final = (
    *("user", "metadata", "store", "safety_identifier"),
    *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
)
"""For OpenAI's own records and caches; they change no text."""
NEUTRAL: Final[Neutral] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "service_tier": ("auto", "default"),
}
"""Parameter -> values that change nothing, and are taken."""
NEUTRAL_COMPLETION: Final[Neutral] = {
    **NEUTRAL,
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False,),  # 0 would be those of the text itself
}
NEUTRAL_CHAT: Final[Neutral] = {
    **NEUTRAL,
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (False, True),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    **dict.fromkeys(("audio", "moderation", "prediction", "web_search_options"), ()),
}


@dataclass(frozen=True, slots=True)
class Call:
    """What is known of a call before its body is read."""

    model: str
    """Name of the model that is served."""
    request_id: str
    created: int
    """Seconds since 1970."""
    max_items: int = 64
    """Texts in one answer."""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What is asked for, and what the answer says beside the texts."""

    kind: Literal["completion", "chat"]
    request: Request
    """With each prompt as often as it has choices."""
    n: int
    """Choices for each prompt."""
    model: str
    id: str
    created: int
    stream: bool = False
    include_usage: bool = False
    """Whether a stream ends with the count of tokens."""


def parse_completion(body: bytes, params: Params, call: Call) -> CompletionRequest:
    """Read the body of `/v1/completions`; raise RequestError for what cannot be honoured."""
    table = _open(body, call)
    prompts = _prompts(table)
    n = _choices(table, len(prompts), call)
    best_of = table.integer("best_of", n, 1, 2**31)
    if best_of != n:
        table.faults.append(Fault("best_of", f"Texts are not ranked here; expected as many as `n`, {n}"))
    limit = table.integer("max_tokens", min(COMPLETION_TOKENS, params.max_length), 1, params.max_length)
    sampling = _sampling(table, params, limit)
    stream, include_usage = _stream(table)
    _close(table, NEUTRAL_COMPLETION)
    request = Request(tuple(prompt for prompt in prompts for _ in range(n)), sampling)
    name = f"cmpl-{call.request_id}"
    return CompletionRequest("completion", request, n, call.model, name, call.created, stream, include_usage)


def parse_chat(body: bytes, params: Params, call: Call, template: ChatTemplate) -> CompletionRequest:
    """Read the body of `/v1/chat/completions` likewise, and put its messages into the template."""
    table = _open(body, call)
    messages = parse_messages(table)
    n = _choices(table, 1, call)
    older = table.integer("max_tokens", None, 1, params.max_length)
    limit = table.integer("max_completion_tokens", older, 1, params.max_length)
    if older not in (None, limit):
        table.faults.append(Fault("max_tokens", "Differs from `max_completion_tokens`, its newer name"))
    sampling = _sampling(table, params, limit)
    stream, include_usage = _stream(table)
    _close(table, NEUTRAL_CHAT)
    rendered = template.render(messages)
    request = Request((rendered.text,) * n, replace(sampling, stop=(*sampling.stop, *rendered.stop)))
    name = f"chatcmpl-{call.request_id}"
    return CompletionRequest("chat", request, n, call.model, name, call.created, stream, include_usage)


def check_model(name: object, served: str) -> None:
    """Raise RequestError 404 unless this is the model that is served."""
    if not isinstance(name, str):
        raise RequestError("Expected a string", param="model")
    if name != served:
        raise RequestError(
            f"There is no model {name[:80]!a} here; served is `{served}`",
            status=404,
            param="model",
            code="model_not_found",
        )


def _open(body: bytes, call: Call) -> Table:
    try:
        value = parse_json(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RequestError(f"The body is not UTF-8: byte {error.start}", code="invalid_utf8") from None
    except ValueError as error:
        raise RequestError(f"The body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise RequestError("The body is not a JSON object")
    table = open_table(value, "", [])
    name = table.take("model")
    if name is not None:
        check_model(name, call.model)
    return table


def _prompts(table: Table) -> Sequence[str]:
    value = table.take("prompt")
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found:
        raise RequestError("Expected a string or a list of strings, not empty", param="prompt")
    for index, prompt in enumerate(found):
        if isinstance(prompt, int | list):
            raise RequestError("Expected text; numbers of tokens are not taken", param="prompt")
        place = "prompt" if isinstance(value, str) else f"prompt.{index}"
        if not prompt or not is_text(prompt):
            raise RequestError("Expected a string that is not empty, without lone surrogates", param=place)
    return found


def _choices(table: Table, prompts: int, call: Call) -> int:
    n = table.integer("n", 1, 1, MAX_N)
    if prompts * n > call.max_items:
        place = "prompt" if prompts > call.max_items else "n"
        table.faults.append(Fault(place, f"{prompts * n} texts in one answer, at most {call.max_items} are made"))
    return n


def _sampling(table: Table, params: Params, limit: int | None) -> Sampling:
    """Read how to choose; a parameter that has an effect only on what is drawn asks for drawing."""
    temperature = table.number("temperature", None, 0, MAX_TEMPERATURE)
    top_p = table.number("top_p", None, 0, 1)
    seed = table.integer("seed", None, -MAX_SEED - 1, MAX_SEED)
    if temperature is not None:
        check_temperature(temperature, "temperature", table.faults)
        do_sample = temperature > 0
    elif top_p is not None and top_p < 1:
        # By a service that is greedy by its temperature, at OpenAI's default.
        do_sample, temperature = True, params.temperature or 1.0
    else:
        do_sample, temperature = params.do_sample, params.temperature
    return Sampling(
        max_length=params.max_length,
        max_new_tokens=limit,
        temperature=temperature,
        top_p=params.top_p if top_p is None else top_p,
        do_sample=do_sample,
        seed=None if seed is None else seed & MAX_SEED,
        stop=_stops(table),
    )


def _stops(table: Table) -> tuple[str, ...]:
    value = table.take("stop")
    found = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(found, list) or len(found) > MAX_STOPS:
        table.faults.append(Fault("stop", f"Expected a string or a list of at most {MAX_STOPS}"))
        return ()
    if not all(is_text(text) and 0 < len(text) <= MAX_STOP for text in found):
        table.faults.append(Fault("stop", f"Expected strings of 1 to {MAX_STOP} characters, without lone surrogates"))
    return tuple(found)


def _stream(table: Table) -> tuple[bool, bool]:
    stream = table.truth("stream", False)
    if "stream_options" in table and not stream:
        table.faults.append(Fault("stream_options", "Has no effect without `stream: true`"))
    value = table.take("stream_options")
    options = open_table({} if value is None else value, "stream_options", table.faults)
    include_usage = options.truth("include_usage", False)
    refuse_others(options, "stream_options", {"include_obfuscation": (False,)})
    return stream, include_usage


def _close(table: Table, neutral: Neutral) -> None:
    """Refuse what is left, and whatever was found wrong."""
    for key in IGNORED:
        table.take(key)
    refuse_others(table, "", neutral)
    if faults := table.faults:
        raise RequestError("; ".join(map(str, faults[:SHOWN])), param=faults[0].place)
