"""Log lines: one JSON object each, on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TextIO

__all__ = ["configure", "event", "relay"]

FIELDS = "forge_fields"


def configure(stream: TextIO | None = None) -> None:
    """Send everything that is logged, warnings included, to one stream."""
    target = logging.StreamHandler(stream or sys.stderr)
    target.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [target]
    root.setLevel(logging.INFO)
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
    except (ValueError, AttributeError, KeyError, TypeError):
        event(logger, logging.WARNING, line)
        return
    event(logger, level if isinstance(level, int) else logging.WARNING, str(message), fields)


class JsonFormatter(logging.Formatter):
    """One record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; what JSON cannot hold is shown as text."""
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
