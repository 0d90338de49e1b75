"""Waiting for what the server says of itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

__all__ = ["until"]


async def until(read: Callable[[], Awaitable[float]], wanted: float, timeout: float = 10) -> float:
    """Wait until a value is read; return how many seconds that took."""
    started = time.perf_counter()
    while (found := await read()) != wanted:
        waited = time.perf_counter() - started
        assert waited < timeout, f"Still {found:g} and not {wanted:g} after {timeout:g} s"
        await asyncio.sleep(0.01)
    return time.perf_counter() - started
