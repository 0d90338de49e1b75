"""What happens during a build as JSON lines, for other programs: `--build_event_json_file`.

Each line is an object with `event`: `started`, `plan`, `action_started`, `action_finished`, `warning`,
`target`, `finished`. The shape only grows.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from forge import __version__
from forge.cli.report import Outcome
from forge.core.event import ActionFinished, ActionStarted, Event, Plan, Warned
from forge.execution.home import host_errors


class EventLog:
    """Writes events to a file as they come; from any thread."""

    def __init__(self, path: Path, command: str, patterns: Sequence[str]) -> None:
        with host_errors(path):
            self._file: TextIO = path.open("w")
        self._lock = threading.Lock()
        self._write(
            {"event": "started", "schema": 1, "forge": __version__, "command": command, "patterns": list(patterns)}
        )

    def __call__(self, event: Event) -> None:
        """Take an event; how far an action is goes unrecorded."""
        match event:
            case Plan(actions):
                self._write({"event": "plan", "actions": actions})
            case ActionStarted(name, action):
                self._write({"event": "action_started", "action": name, "mnemonic": action.mnemonic})
            case ActionFinished(name, action, outcome, seconds, log, remote):
                table = {"event": "action_finished", "action": name, "mnemonic": action.mnemonic}
                said: dict[str, Any] = {"log": log} if outcome == "failed" else {"remote": True} if remote else {}
                self._write({**table, "outcome": outcome, "seconds": round(seconds, 3), **said})
            case Warned(text):
                self._write({"event": "warning", "text": text})

    def finish(self, outcome: Outcome, exit_code: int) -> None:
        """Write what the build came to, and close the file."""
        for report in outcome.reports:
            self._write(
                {"event": "target", "label": str(report.label), "status": report.status, "digest": report.digest}
            )
        for label, fault in outcome.skipped.items():
            self._write({"event": "target", "label": str(label), "status": "skipped", "reason": fault.text})
        self._write({"event": "finished", "exit_code": exit_code, "seconds": round(outcome.seconds, 3)})
        self._file.close()

    def end(self, exit_code: int) -> None:
        """Write that the build came to nothing, and close the file."""
        self._write({"event": "finished", "exit_code": exit_code})
        self._file.close()

    def _write(self, table: dict[str, Any]) -> None:
        with self._lock:
            self._file.write(json.dumps(table) + "\n")
            self._file.flush()
