"""What bounds a request, and what is found out about it on its way."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

__all__ = ["Exchange", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What may wait, and for how long."""

    queue: int = 256
    """Requests that wait for the model."""
    items: int = 1024
    """Items of one request."""
    hang_s: float = 30.0
    """For a run to end when nobody waits for it any more; then its process is ended."""
    load_s: float = 1800.0
    """For the model to be loaded and warm."""


@dataclass(slots=True)
class Exchange:
    """What is found out about one request on its way."""

    started: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)
    """Of each step that it came through."""
    items: int = 0
    batch_size: int = 0
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    first_token_s: float | None = None
