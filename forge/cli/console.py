"""What a person sees while a build runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TextIO

from forge.core.event import ActionFinished, ActionProgress, ActionStarted, Event, Plan, Transferred, Warned

Mode = Literal["auto", "tty", "plain", "quiet"]

_SHOWN = 6
"""Actions that the live display lists."""
_PLAIN_SECONDS = 10.0
"""How often a long download says in plain lines how far it is."""


@dataclass(slots=True)
class _Running:
    text: str
    since: float
    done: int = 0
    total: int = 0
    begun: int = -1
    """Bytes that were there before: what an earlier call left was not downloaded at any speed."""
    told: float = 0.0


@dataclass(slots=True)
class Console:
    """Listens to a build; every line goes to standard error."""

    mode: Mode
    color: bool
    stream: TextIO
    clock: Callable[[], float] = time.monotonic
    total: int = 0
    finished: int = 0
    ran: int = 0
    _running: dict[str, _Running] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _live: Any = None

    @classmethod
    def make(cls, progress: str, color: str, environ: Mapping[str, str]) -> Console:
        """Choose the mode and colours by flags, NO_COLOR, FORCE_COLOR, TERM and what standard error is."""
        terminal = sys.stderr.isatty() and environ.get("TERM") != "dumb"
        mode: Mode = "plain"
        if progress in ("tty", "plain", "quiet"):
            mode = progress  # type: ignore[assignment]
        elif terminal and not environ.get("CI"):
            mode = "tty"
        wanted = terminal and not environ.get("NO_COLOR")
        if environ.get("FORCE_COLOR") and not environ.get("NO_COLOR"):
            wanted = True
        return cls(mode, {"yes": True, "no": False}.get(color, wanted), sys.stderr)

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: Event) -> None:
        """Take an event; from any thread."""
        with self._lock:
            self._take(event)

    def line(self, text: str, style: str = "") -> None:
        """Print a line above the display."""
        if self.mode == "quiet" and style != "error":
            return
        codes = {"error": "31;1", "warning": "33", "good": "32", "faint": "2"}
        if self.color and style in codes:
            text = f"\x1b[{codes[style]}m{text}\x1b[0m"
        if self._live is not None:
            from rich.text import Text

            self._live.console.print(Text.from_ansi(text))
        else:
            print(text, file=self.stream, flush=True)

    def _take(self, event: Event) -> None:
        match event:
            case Plan(actions):
                self.total, self.finished = actions, 0
            case ActionStarted(name, action):
                self._running[name] = _Running(action.description, self.clock())
                self._start_live()
            case ActionProgress(name, done, total):
                if name in self._running:
                    self._advance(self._running[name], done, total)
            case ActionFinished(name, action, outcome, seconds):
                running = self._running.pop(name, None)
                self.finished += 1
                if outcome == "ran":
                    self.ran += 1
                    self._tell(action.description, seconds, running)
                elif outcome == "failed":
                    self.line(f"FAILED {action.description} after {seconds:.1f} s", "error")
            case Transferred(way, remote, done, total):
                self._transfer(f"{way} {'from' if way == 'Download' else 'to'} {remote}", done, total)
            case Warned(text):
                self.line(f"warning: {text}", "warning")

    def _transfer(self, text: str, done: int, total: int) -> None:
        if done >= total:
            self._running.pop(text, None)
            return
        running = self._running.setdefault(text, _Running(text, self.clock()))
        self._start_live()
        self._advance(running, done, total)

    def _advance(self, running: _Running, done: int, total: int) -> None:
        running.begun = done if running.begun < 0 else min(running.begun, done)
        running.done, running.total = done, total
        now = self.clock()
        if self.mode == "plain" and now - max(running.since, running.told) >= _PLAIN_SECONDS:
            running.told = now
            self.line(f"    {_progress(running, now)}")

    def _tell(self, text: str, seconds: float, running: _Running | None) -> None:
        if self.mode != "plain":
            return
        size = f" ({human(running.total)})" if running and running.total and "Fetch" in text else ""
        self.line(f"[{self.finished}/{self.total}] {text}{size} {seconds:.1f} s")

    def _start_live(self) -> None:
        if self.mode != "tty" or self._live is not None:
            return
        from rich.console import Console as RichConsole
        from rich.live import Live

        console = RichConsole(file=self.stream, no_color=not self.color, force_terminal=True, highlight=False)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=8, transient=True)
        self._live.start()

    def _render(self) -> Any:
        from rich.text import Text

        with self._lock:
            now = self.clock()
            running = sorted(self._running.values(), key=lambda each: each.since)
            lines = [f"[{self.finished}/{self.total}] {len(running)} running"]
            lines += [f"    {_progress(each, now)}" for each in running[:_SHOWN]]
            if len(running) > _SHOWN:
                lines.append(f"    … and {len(running) - _SHOWN} more")
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")


def human(size: float) -> str:
    """Write a number of bytes for a person."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _progress(running: _Running, now: float) -> str:
    seconds = now - running.since
    if not running.total:
        return f"{running.text} {seconds:.0f} s"
    speed = (running.done - max(running.begun, 0)) / seconds if seconds > 0 else 0.0
    left = f", {(running.total - running.done) / speed:.0f} s left" if speed > 0 else ""
    share = 100 * running.done // running.total
    return f"{running.text} {share}% of {human(running.total)}, {human(speed)}/s{left}"


def width(environ: Mapping[str, str]) -> int:
    """Tell how wide the terminal is."""
    try:
        return os.get_terminal_size(2).columns
    except OSError:
        return int(environ.get("COLUMNS", "100"))
