"""Why an action ran: what its key was made of, compared with the last time."""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from forge.core.action import Action
from forge.core.tool import Content, Json

Parts = dict[str, str]
"""Field or input -> a value or digest, short enough to show."""

FIRST = "It has never run in this workspace"

CUTOFF = "What it made is the same as before: nothing that needs it had to run for that"


class TraceLog:
    """What each action of a workspace was made of when it was last looked at, and why it last ran."""

    def __init__(self, note: Path) -> None:
        self._note = note
        self._table: dict[str, Any] = {"build": 0, "actions": {}}
        with suppress(OSError, ValueError, EOFError, TypeError):
            found = marshal.loads(note.read_bytes())
            if isinstance(found, dict) and set(found) == {"build", "actions"}:
                self._table = found
        self._build = int(self._table["build"]) + 1
        self._changed = False

    @property
    def build(self) -> int:
        """Number of the last build that ran something."""
        return self._build - 1

    def reasons(self, name: str, parts: Parts) -> list[str]:
        """Say what is different from the last time."""
        known = self._table["actions"].get(name)
        if known is None:
            return [FIRST]
        before: Parts = known["parts"]
        reasons = [_difference(part, before.get(part), parts.get(part)) for part in sorted({*before, *parts})]
        found = [reason for reason in reasons if reason]
        return found or ["Its result was no longer in the store"]

    def knows(self, name: str, key: str) -> bool:
        """Say whether an action was last looked at with this key."""
        known = self._table["actions"].get(name)
        return known is not None and known["key"] == key

    def record(self, name: str, key: str, parts: Parts, *, ran: bool, reasons: list[str], made: str = "") -> None:
        """Remember an action as it is now; `made` stands for its outputs."""
        known = self._table["actions"].get(name)
        if known is not None and not ran and known["key"] == key:
            return
        if ran and known is not None and known["key"] != key and made and known.get("made") == made:
            reasons = [*reasons, CUTOFF]
        last = {"build": self._build, "reasons": reasons} if ran else (known or {}).get("last")
        self._table["actions"][name] = {"key": key, "parts": parts, "last": last, "made": made}
        self._changed = True

    def last_run(self, name: str) -> tuple[int, list[str]] | None:
        """Tell in which build an action last ran here, and why; None when it never did."""
        last = (self._table["actions"].get(name) or {}).get("last")
        return (last["build"], last["reasons"]) if last else None

    def save(self) -> None:
        """Write what was learnt."""
        if self._changed:
            self._table["build"] = self._build
            temporary = self._note.with_name(f"{self._note.name}.{os.getpid()}")
            with suppress(OSError):
                temporary.write_bytes(marshal.dumps(self._table))
                os.replace(temporary, self._note)


def parts_of(action: Action, inputs: Mapping[str, Content], root: Content | None) -> Parts:
    """Take an action apart into what can change on its own."""
    parts = {"argv": _short(action.argv), "outputs": _short(action.outputs), "timeout": str(action.timeout)}
    if action.tool:
        parts = {"tool": action.tool, "version of the tool": action.argv[2]}
        parts |= {f"parameter {name}": value for name, value in _leaves(json.loads(action.argv[3]))}
    for name, value in action.env:
        parts[f"env {name}"] = value
    if action.fixed_output is not None:
        parts["digest"] = action.fixed_output.short
    for name, value in action.properties:
        parts[f"property {name}"] = value
    if root is not None:
        parts["environment"] = _digest(root)
    for path, content in inputs.items():
        parts[f"input {path}"] = _digest(content)
    return parts


def _digest(content: Content) -> str:
    digest = getattr(content, "root", None) or getattr(content, "digest", None)
    mode = "+x " if getattr(content, "executable", False) else ""
    return mode + (digest.short if digest else "")


def _leaves(value: Json, name: str = "") -> Iterator[tuple[str, str]]:
    """Take nested parameters apart, also those that are JSON written as text, such as a configuration file's."""
    if isinstance(value, str) and value.startswith("{"):
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _leaves(below, f"{name}.{key}" if name else key)
    else:
        yield name, _cut(value if isinstance(value, str) else json.dumps(value))


def _short(words: tuple[str, ...]) -> str:
    return _cut(shlex.join(words))


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:160]}… {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _difference(part: str, before: str | None, now: str | None) -> str:
    if before == now:
        return ""
    if before is None:
        return f"`{part}` is new"
    if now is None:
        return f"`{part}` is gone"
    return f"`{part}` changed from `{before}` to `{now}`"
