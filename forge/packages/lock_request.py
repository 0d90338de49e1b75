"""What a lock was asked for, and whether that is still what is asked."""

from __future__ import annotations

from collections.abc import Iterable

from forge.core.lock import Lock


def stale(lock: Lock, requested: Iterable[str]) -> bool:
    """Say whether `lock` answers another request; `requested` is a request's property of that name."""
    return set(lock.requested) != set(requested)
