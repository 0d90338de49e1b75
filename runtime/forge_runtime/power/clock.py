"""Time, as a measurement sees it."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timezone
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Time, and waiting for it."""

    def monotonic(self) -> float:
        """Return seconds, for differences."""
        ...

    def now(self) -> datetime:
        """Return the time of day, with its zone."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for an event; return whether it came."""
        ...


class SystemClock:
    """The machine's."""

    def monotonic(self) -> float:
        """Return seconds, for differences."""
        return time.monotonic()

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return datetime.now(timezone.utc)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for an event; return whether it came."""
        return event.wait(seconds)
