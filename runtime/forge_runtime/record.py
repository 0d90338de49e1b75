"""What is known of one finished request; metrics, logs and time series are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Record", "Sink"]


@dataclass(frozen=True, slots=True)
class Record:
    """One request to an inference endpoint, answered or refused."""

    request_id: str
    path: str
    """The route, `/api/infer`, never what a client made up."""
    status: int
    time: float
    """When it came, seconds since the epoch."""
    seconds: float
    """From its first byte to the answer."""
    steps: Mapping[str, float] = field(default_factory=dict)
    """Seconds of `decode`, `preprocess`, `queue`, `infer`, `postprocess`, `encode`, as far as it came."""
    items: int = 0
    """Prompts, pictures or rows that it brought; 0 where it was refused before they were counted."""
    batch_size: int = 0
    """Items of the batch that it ran in, its own included."""
    prompt_tokens: int | None = None
    """None where the model has no tokens."""
    generated_tokens: int | None = None
    first_token_seconds: float | None = None
    """From its first byte to the first token; only where tokens were streamed."""


class Sink(Protocol):
    """Takes records on the event loop's thread, and never waits."""

    def add(self, record: Record) -> None:
        """Take one."""
        ...
