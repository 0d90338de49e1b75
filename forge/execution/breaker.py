"""What a build puts up with from its remote cache: faults are told once, and after some in a row it is left alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from forge.core.event import Listener, Warned
from forge.core.remote import RemoteCache, RemoteError, RemoteRefused

T = TypeVar("T")
PATIENCE: Final = 5
"""Calls in a row that may fail, each after attempts of its own."""


class Breaker:
    """Stands between a build and its remote cache; safe to share between threads."""

    def __init__(self, cache: RemoteCache, listener: Listener) -> None:
        self.cache, self._listener = cache, listener
        self.is_open = False
        """The remote cache is asked nothing any more."""
        self.is_refused = False
        """It takes nothing from here."""
        self._failures = 0
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def ask(self, call: Callable[[RemoteCache], T], otherwise: T) -> T:
        """Call the remote cache; `otherwise` where it gives no answer. KeyError passes."""
        if self.is_open:
            return otherwise
        try:
            answer = call(self.cache)
        except RemoteRefused as error:
            self._fail(f"lets this build read nothing: {error}")
            return otherwise
        except RemoteError as error:
            self._fail(str(error))
            return otherwise
        except KeyError:
            self._failures = 0
            raise
        self._failures = 0
        return answer

    def give(self, call: Callable[[RemoteCache], None]) -> bool:
        """Write to the remote cache; False where it does not take it."""
        if self.is_open or self.is_refused:
            return False
        try:
            call(self.cache)
        except RemoteRefused as error:
            self.is_refused = True
            self.tell("refuses", f"takes no results from here: {error}")
            return False
        except RemoteError as error:
            self._fail(str(error))
            return False
        self._failures = 0
        return True

    def give_up(self, reason: str) -> None:
        """Ask the remote cache nothing any more."""
        self.is_open = True
        self.tell("given up", f"{reason}: this build goes on without it")

    def tell(self, kind: str, text: str) -> None:
        """Warn, once of a kind."""
        with self._lock:
            is_new = kind not in self._told
            self._told.add(kind)
        if is_new:
            self._listener(Warned(f"The remote cache {self.cache.name} {text}"))

    def _fail(self, reason: str) -> None:
        with self._lock:
            self._failures += 1
            ends = self._failures >= PATIENCE
        if ends:
            self.give_up(f"failed {PATIENCE} times in a row ({reason})")
        else:
            self.tell("fails", f"failed, and the build goes on: {reason}")
