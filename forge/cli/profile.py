"""Where a build's time went, as a Chrome trace: `--profile`, for chrome://tracing or Perfetto.

The Trace Event Format, JSON object form: one complete event ("ph": "X") a phase and an action that ran.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forge.core.event import ActionFinished, ActionStarted, Event
from forge.execution.home import host_errors


class Profile:
    """Collects events; from any thread."""

    def __init__(self, path: Path) -> None:
        with host_errors(path):  # now, and not when the build is done
            path.touch()
        self._path, self._zero = path, time.monotonic()
        self._events: list[dict[str, Any]] = []
        self._started: dict[str, float] = {}
        self._lanes: dict[int, int] = {threading.get_ident(): 0}
        self._lock = threading.Lock()
        self._cached = 0

    def __call__(self, event: Event) -> None:
        """Take an event of a build."""
        now = time.monotonic()
        with self._lock:
            match event:
                case ActionStarted(name):
                    self._started[name] = now
                case ActionFinished(name, action, outcome) if outcome != "cached":
                    start = self._started.pop(name, now)
                    lane = self._lanes.setdefault(threading.get_ident(), len(self._lanes))
                    self._add(
                        action.description, action.mnemonic, start, now, lane, {"action": name, "outcome": outcome}
                    )
                case ActionFinished():
                    self._cached += 1

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record a phase of the command itself."""
        start = time.monotonic()
        yield
        with self._lock:
            self._add(name, "phase", start, time.monotonic(), 0, {})

    def write(self) -> None:
        """Write the trace."""
        names = [(0, "forge"), *((lane, f"worker {lane}") for lane in self._lanes.values() if lane)]
        lanes = [
            {"ph": "M", "pid": 1, "tid": lane, "name": "thread_name", "args": {"name": name}} for lane, name in names
        ]
        table = {"traceEvents": lanes + self._events, "otherData": {"cached actions": self._cached}}
        with host_errors(self._path):
            self._path.write_text(json.dumps(table) + "\n")

    def _add(self, name: str, kind: str, start: float, end: float, lane: int, args: dict[str, str]) -> None:
        microseconds = {"ts": round((start - self._zero) * 1e6), "dur": round((end - start) * 1e6)}
        self._events.append({"ph": "X", "pid": 1, "tid": lane, "name": name, "cat": kind, **microseconds, "args": args})
