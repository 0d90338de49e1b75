"""A request that is ready to be sent, and the judgement of its answer; what all interfaces share."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from forge_client.address import Address
from forge_client.connection import Message, Response
from forge_client.error import RequestFailed
from forge_client.value import read_json, table_of

__all__ = ["Asking", "Call", "Collector", "Tally", "answer_of", "grouped", "refusal"]

T = TypeVar("T")
SHOWN = 200
"""Characters of an answer in a message."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How requests are made."""

    address: Address
    headers: Sequence[tuple[str, str]] = ()
    model: str = ""
    batch: int = 1
    """Items in one request."""
    max_tokens: int | None = None
    """Tokens to generate at most; None leaves it to the data set and the server."""
    stream: bool = True
    """Take tokens as they come, where the interface has that."""
    check: bool = True
    """Judge answers by what is in them, not by their status alone."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What an answer brought."""

    items: int
    prompt_tokens: int | None = None
    """None where the server does not say."""
    generated_tokens: int | None = None
    estimated: bool = False
    """Tokens are counted as events, because the server does not say."""


class Collector(Protocol):
    """Takes a stream of events and judges it at its end."""

    first: float | None
    """When the first token came, by the loop's clock."""
    gaps: array[float]
    """Seconds between one token and the next."""

    def feed(self, piece: bytes, at: float) -> None:
        """Take a piece of the body; RequestFailed when it cannot be good any more."""
        ...

    def tally(self, response: Response) -> Tally:
        """Judge the whole; RequestFailed when it is not good."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One request."""

    message: Message
    judge: Callable[[Response], Tally]
    """Takes an answer with status 200; RequestFailed when it is not good."""
    collect: Callable[[], Collector] | None = None
    """Makes what takes the stream; None where the answer comes at once."""


def refusal(response: Response) -> RequestFailed:
    """Make the error of an answer that is not 200, in the server's words."""
    kind = {429: "rejected", 503: "unavailable"}.get(response.status, f"http_{response.status}")
    text = response.body[: SHOWN * 4].decode(errors="replace").strip()[:SHOWN]
    try:
        table = table_of(read_json(response.body))
    except ValueError:
        table = {}
    error = table.get("error")
    told = table_of(error).get("message") or (error if isinstance(error, str) else None) or table.get("detail")
    text = told[:SHOWN] if isinstance(told, str) else text
    message = f"Status {response.status}: {text}" if text else f"Status {response.status}"
    return RequestFailed(kind, message, retry_after=response.retry_after())


def answer_of(response: Response) -> dict[str, object]:
    """Read an answer that must be a JSON object."""
    try:
        value = read_json(response.body)
    except ValueError as error:
        raise RequestFailed("answer", f"The answer is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise RequestFailed("answer", "The answer is no object")
    return value


def grouped(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut into groups; the last one may be smaller."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
