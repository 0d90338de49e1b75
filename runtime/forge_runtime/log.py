"""Log lines: one JSON object each, on stderr."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TextIO

__all__ = ["Outbox", "Tail", "configure", "event", "relay"]

FIELDS = "forge_fields"
LINE = "forge_line"
TAIL = 2000
WAITING = 10_000
FLUSH_S = 1.0
LONGEST = 4096


class Tail(logging.Handler):
    """Keeps the last lines, each cut to a length."""

    def __init__(self, size: int = TAIL) -> None:
        super().__init__()
        self.size = size
        self._lines: deque[str] = deque(maxlen=size)
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self._lines.append(self.format(record)[:LONGEST])

    def last(self, count: int) -> Sequence[str]:
        """Return the last of them, oldest first."""
        return list(self._lines)[-count:]


class Outbox(logging.Handler):
    """Writes from a thread of its own: a stream that nobody reads must not hold up a request.

    Where too many lines wait, new ones are dropped, and later counted in a line.
    """

    def __init__(self, stream: TextIO, size: int = WAITING) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str] = queue.Queue(size)
        self._dropped = 0
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Leave a line to be written."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """Wait until all is written, but not for long."""
        end = time.monotonic() + FLUSH_S
        while self._lines.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.001)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            with contextlib.suppress(OSError, ValueError):
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    self._stream.write(json.dumps({"level": "warning", "message": f"{dropped} lines dropped"}) + "\n")
                self._stream.write(f"{line}\n")
                self._stream.flush()
            self._lines.task_done()


def configure(
    stream: TextIO | None = None, *, tail: Tail | None = None, debug: bool = False, waits: bool = True
) -> None:
    """Send everything that is logged, warnings included, to one stream and to `tail`.

    With `waits` false nobody who logs waits for the stream.
    """
    target = logging.StreamHandler(stream or sys.stderr) if waits else Outbox(stream or sys.stderr)
    target.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [target] if tail is None else [target, tail]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    logging.captureWarnings(True)
    # An error that cannot be written must not reach the request that was logged.
    logging.raiseExceptions = False
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def event(
    logger: logging.Logger,
    level: int,
    message: str,
    fields: Mapping[str, object] | None = None,
    *,
    error: BaseException | None = None,
) -> None:
    """Log a message with fields of its own, and the traceback of `error`."""
    logger.log(level, "%s", message, extra={FIELDS: dict(fields or {})}, exc_info=error)


def relay(logger: logging.Logger, line: str) -> None:
    """Log a line of another process: as it is where that logs as this one does, else as a warning."""
    try:
        fields = json.loads(line)
        level = logging.getLevelName(fields.pop("level").upper())
        message = fields.pop("message")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        event(logger, logging.WARNING, line)
        return
    event(logger, level if isinstance(level, int) else logging.WARNING, str(message), fields)


class JsonFormatter(logging.Formatter):
    """One record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; what JSON cannot hold is shown as text."""
        made: str | None = getattr(record, LINE, None)
        if made is None:
            # Once for all handlers.
            made = self._line(record)
            setattr(record, LINE, made)
        return made

    def _line(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            # Python 3.10 has no datetime.UTC.
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, FIELDS, {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
