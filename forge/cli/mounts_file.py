"""A file of mounts: `{"Mounts": [{"source": "~/data", "destination": "/data"}]}`."""

from __future__ import annotations

import json
from pathlib import Path

from forge.core.errors import LoadError, UsageError
from forge.execution.mount import Mount

_KEYS = ("source", "destination")


def read_mounts(path: Path) -> tuple[Mount, ...]:
    """Read a file of mounts; LoadError with its place for each fault of it."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error.strerror}", hint="See `--mounts-file`") from error
    except ValueError as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise LoadError(f"Not JSON: {error}", place=f"{path}{line}") from error
    rows = table.get("Mounts") if isinstance(table, dict) else None
    if not isinstance(rows, list):
        hint = 'Write {"Mounts": [{"source": "/data", "destination": "/data"}]}'
        raise LoadError("It has no list `Mounts`", place=str(path), hint=hint)
    return tuple(_mount(path, f"Mounts[{number}]", row) for number, row in enumerate(rows))


def _mount(path: Path, what: str, row: object) -> Mount:
    place = f"{path}: {what}"
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in _KEYS):
        given = row if isinstance(row, dict) else {}
        missing = next(key for key in _KEYS if not isinstance(given.get(key), str))
        raise LoadError(
            f"`{missing}` is missing, or no text", place=place, hint="Each mount has `source`, `destination`"
        )
    if unknown := sorted(row.keys() - {*_KEYS, "readonly"}):
        raise LoadError(f"Unknown keys [{', '.join(unknown)}]", place=place, hint="There is `readonly`, too")
    source = Path(row["source"]).expanduser()
    if not source.is_absolute() or not source.exists():
        raise LoadError(
            f"`{row['source']}` is not there", place=place, hint="`source` is an absolute path, or below `~`"
        )
    if not row["destination"].startswith("/"):
        raise LoadError(f"`{row['destination']}` is no absolute path", place=place)
    return Mount(str(source), row["destination"], not row.get("readonly", False))
