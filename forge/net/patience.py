"""Patience: how often a transfer may fail before it is given up, and how long to wait between."""

from __future__ import annotations

from collections.abc import Callable

from forge.net.connection import Broken, Unavailable, host_of

_RENEWAL = 1 << 20
"""So many new bytes renew it: a long transfer over a bad line breaks more often than a short one."""
_UNREACHED = 3
"""Attempts at a host that none has reached."""
_LONGEST_WAIT = 30.0


class Patience:
    """What is left of it for one transfer; `dead` is shared by all, the hosts that nobody reached."""

    def __init__(
        self,
        attempts: int,
        sleep: Callable[[float], object],
        dead: dict[str, str],
        address: str,
        *,
        is_known: bool = False,
    ) -> None:
        self._attempts, self._sleep, self._dead = attempts, sleep, dead
        self._failures = self._best = 0
        self._is_known = is_known
        """The host has answered before: when it is away, it is likely to come back."""
        # A host that no attempt reached will not be there for the next of a hundred wheels either.
        if reason := dead.get(host_of(address)):
            raise Unavailable(reason)

    def reached(self, done: int) -> None:
        """Take note of progress; only bytes beyond the best so far count, so that it ends."""
        if done >= self._best + _RENEWAL:
            self._best, self._failures = done, 0

    def failed(self, error: Broken) -> None:
        """Wait for the next attempt; Unavailable when there is none."""
        self._failures += 1
        # A host that nobody reaches is rather away than busy.
        attempts = min(self._attempts, _UNREACHED) if error.host and not self._is_known else self._attempts
        if self._failures >= attempts:
            if error.host:
                self._dead[error.host] = str(error)
            times = f" ({attempts} attempts)" if attempts > 1 else ""
            raise Unavailable(f"{error}{times}") from error
        self._sleep(min(_LONGEST_WAIT, max(error.wait, 0.5 * 2 ** (self._failures - 1))))
