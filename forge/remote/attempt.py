"""Attempts: what a passing fault of a cache spoilt is tried again, a little later each time, and not for long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from forge.core.remote import RemoteError

T = TypeVar("T")
ATTEMPTS = 3
_FIRST_PAUSE = 0.2
"""Seconds; the next is three times as long. A cache that needs more patience costs more than it saves."""
_LONGEST_PAUSE = 5.0
SLOWEST = 1 << 18
"""Bytes a second: a transfer slower than this is given up."""


class Passing(Exception):
    """It failed in a way that another attempt may mend."""

    def __init__(self, reason: str, *, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait
        """Seconds that the server asks for."""


def attempt(call: Callable[[], T], sleep: Callable[[float], object] = time.sleep) -> T:
    """Call, and again after each Passing fault; RemoteError when the last attempt has one."""
    for number in range(1, ATTEMPTS + 1):
        try:
            return call()
        except Passing as error:
            if number == ATTEMPTS:
                raise RemoteError(f"{error} ({ATTEMPTS} attempts)") from error
            sleep(pause(number, error))
    raise AssertionError  # the last attempt returns or raises


def pause(number: int, error: Passing) -> float:
    """Tell how many seconds to wait after the fault of the attempt of that number, the first being 1."""
    return min(_LONGEST_PAUSE, max(error.wait, _FIRST_PAUSE * 3.0 ** (number - 1)))


def allowance(timeout: float, size: int) -> float:
    """Tell how many seconds a transfer of `size` bytes may take."""
    return timeout + size / SLOWEST
