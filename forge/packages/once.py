"""Work that many threads ask for and one does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Once(Generic[Key, Value]):
    """Runs at most one piece of work per key at a time; who comes meanwhile waits for its result or its error."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        """Also answer who comes later, errors included."""
        self._lock = threading.Lock()
        self._results: dict[Key, Future[Value]] = {}

    def get(self, key: Key, work: Callable[[], Value]) -> Value:
        """Do `work` for `key`, or wait for the thread that does."""
        with self._lock:
            result = self._results.get(key)
            mine = result is None
            if result is None:
                result = self._results[key] = Future()
        if mine:
            try:
                result.set_result(work())
            except BaseException as error:
                result.set_exception(error)
            if not self._keep:
                with self._lock:
                    del self._results[key]
        return result.result()
