"""What a client asks for, parsed from the bytes that it sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from forge_runtime.config import MAX_TEMPERATURE, Params, check_temperature
from forge_runtime.error import Fault, RequestError
from forge_runtime.table import Table, parse_json

__all__ = ["Awaited", "Request", "Sampling", "parse"]

MAX_SEED = 2**63 - 1
UNDECLARED = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded"})
"""Types that clients send without being asked (curl's default is the last)."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen, and how many of them."""

    max_length: int
    """All tokens of the context, prompt included."""
    max_new_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    do_sample: bool = False
    seed: int | None = None
    stop: tuple[str, ...] = ()
    """Texts at which generation ends; what ends it is not returned."""

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return not self.do_sample or self.temperature == 0


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Awaited:
    """What a client asks for, and whether it still waits."""

    cancelled: Callable[[], bool] = field(default=_never, compare=False, kw_only=True)
    """Whether nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Request(Awaited):
    """Prompts that are answered together."""

    prompts: tuple[str, ...]
    sampling: Sampling
    details: bool = False
    """Whether tokens are returned with each text."""
    emit: Callable[[int, str], None] | None = field(default=None, compare=False, kw_only=True)
    """Takes each prompt's text as it comes, where somebody reads along; called in the model's thread."""


def parse(body: bytes, content_type: str, params: Params) -> Request:
    """Read `{"prompts": ..., "gen": {...}}`, or a plain text that is one prompt."""
    text = _text(body)
    if not _is_json(text, _media_type(content_type)):
        return Request(_prompts(text), _sampling(Table({}, faults=[]), params))
    try:
        value = parse_json(text)
    except ValueError as error:
        raise RequestError(f"The body is not JSON: {error}", code="invalid_json") from None
    return _from_json(value, params)


def _media_type(content_type: str) -> Literal["json", "text", "undeclared"]:
    kind, _, rest = content_type.partition(";")
    kind = kind.strip().lower()
    _, _, charset = rest.partition("charset=")
    if charset.strip().strip('"').lower() not in ("", "utf-8", "utf8", "us-ascii"):
        raise _unsupported(content_type)
    if kind == "application/json" or kind.endswith("+json"):
        return "json"
    if kind in UNDECLARED:
        return "undeclared"
    if kind.startswith("text/"):
        return "text"
    raise _unsupported(content_type)


def _unsupported(content_type: str) -> RequestError:
    return RequestError(
        f"Expected `application/json` or `text/plain` in UTF-8, got {content_type[:80]!a}",
        status=415,
        code="unsupported_media_type",
    )


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"The body is not UTF-8: byte {error.start}", code="invalid_utf8") from None


def _is_json(text: str, media_type: Literal["json", "text", "undeclared"]) -> bool:
    """Say whether to read JSON; undeclared, whatever looks like it, so that a slip is no prompt."""
    if media_type != "undeclared":
        return media_type == "json"
    if text.lstrip().startswith(("{", "[")) or text.strip() in ("NaN", "Infinity", "-Infinity"):
        return True
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def _from_json(value: object, params: Params) -> Request:
    if not isinstance(value, dict):
        raise RequestError("Expected an object with `prompts`")
    faults: list[Fault] = []
    table = Table(value, faults=faults)
    prompts = _prompts(table.take("prompts"))
    sampling = _sampling(table.table("gen"), params)
    details = table.truth("details", False)
    table.close()
    _refuse(faults)
    return Request(prompts, sampling, details)


def _prompts(value: object) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found:
        raise RequestError("Expected a string or a list of strings, not empty", param="prompts")
    for index, prompt in enumerate(found):
        place = "prompts" if isinstance(value, str) else f"prompts.{index}"
        if not isinstance(prompt, str) or not prompt:
            raise RequestError("Expected a string that is not empty", param=place)
        if not _is_unicode(prompt):
            raise RequestError("A lone surrogate is no character", param=place)
    return tuple(found)


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _sampling(gen: Table, params: Params) -> Sampling:
    sampling = Sampling(
        # No more than the operator allows: memory was planned for it.
        max_length=gen.integer("max_length", params.max_length, 1, params.max_length),
        max_new_tokens=gen.integer("max_new_tokens", None, 1, params.max_length),
        temperature=gen.number("temperature", params.temperature, 0, MAX_TEMPERATURE),
        top_p=gen.number("top_p", params.top_p, 0, 1),
        do_sample=gen.truth("do_sample", params.do_sample),
        seed=gen.integer("seed", None, 0, MAX_SEED),
    )
    gen.close()
    check_temperature(sampling.temperature, "gen.temperature", gen.faults)
    if not sampling.do_sample and "do_sample" not in gen:
        for key, neutral in (("temperature", 0), ("top_p", 1)):
            if key in gen and getattr(sampling, key) != neutral:
                gen.faults.append(Fault(f"gen.{key}", "Has no effect here without `do_sample: true`"))
    return sampling


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise RequestError("; ".join(map(str, faults[:8])), param=faults[0].place)
