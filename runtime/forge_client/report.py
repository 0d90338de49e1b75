"""A measurement as JSON and as a table."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from forge_client.bench import Level
from forge_client.stat import Distribution

__all__ = ["SCHEMA", "Report", "environment", "facts", "lists", "remarks", "table", "to_json"]

SCHEMA = 1
"""Version of the JSON; fields may be added to one version, none changed."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is told of a measurement."""

    target: str
    """Address of the server."""
    api: str
    model: str
    dataset: str
    """What was sent, in words."""
    started: str
    """UTC, ISO 8601."""
    levels: tuple[Level, ...]
    good: bool
    """Every request has a good answer, but for as many as were allowed."""
    stopped: str = ""
    """Why the sweep ended early; empty when it did not."""
    warmup_errors: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    """What the caller says of it: the image that was measured."""
    plan: Mapping[str, object] = field(default_factory=dict)
    """How it was measured."""
    client: Mapping[str, object] = field(default_factory=dict)
    """What measured it."""
    schema: int = SCHEMA

    @property
    def notes(self) -> list[str]:
        """Say what a reader should know before believing the figures."""
        notes = []
        if self.warmup_errors:
            notes.append(f"{self.warmup_errors} requests of the warm-up have no good answer")
        for level in self.levels:
            share = level.client_cpu_seconds / level.summary.seconds if level.summary.seconds else 0.0
            if share > BUSY_SHARE:
                notes.append(
                    f"{level.name}: the load generator itself took {share:.0%} of a processor; it may be the limit"
                )
        if any(level.summary.tokens_estimated for level in self.levels):
            notes.append("The server does not count tokens: events of the stream were counted")
        if self.stopped:
            notes.append(f"The sweep ended early: {self.stopped}")
        return notes


BUSY_SHARE = 0.8


def environment() -> dict[str, object]:
    """Describe what measures; no name of a machine or user is in it."""
    return {
        "python": platform.python_version(),
        "h11": importlib.metadata.version("h11"),
        "system": platform.system(),
        "machine": platform.machine(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def to_json(report: Report) -> str:
    """Write JSON; times are milliseconds where the name says so, else seconds."""
    value = {**dataclasses.asdict(report), "notes": report.notes}
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def table(report: Report) -> str:
    """Write what a person reads."""
    titles, rows = lists(report.levels)
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = [", ".join(fact for _, fact in facts(report)), ""]
    for row in [titles, *rows]:
        lines.append("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return "\n".join([*lines, *remarks(report)]) + "\n"


def remarks(report: Report) -> list[str]:
    """Say what no column of the table says."""
    found = [f"no power: {reason}" for reason in sorted({*filter(None, map(_no_power, report.levels))})]
    for level in report.levels:
        found += [f"{level.name}: {kind}: {text}" for kind, text in level.summary.examples.items()]
        steps = level.observation.steps or {}
        if steps:
            told = ", ".join(f"{name} {_figure(step.mean_ms)} ms" for name, step in steps.items())
            found.append(f"{level.name}: the server's own steps, on average: {told}")
    return [*found, *(f"note: {note}" for note in report.notes)]


def facts(report: Report) -> list[tuple[str, str]]:
    """List what was measured: (what it is, in words)."""
    found = [("target", report.target), ("interface", report.api)]
    if report.model:
        found.append(("model", f"model {report.model}"))
    return [*found, ("data", report.dataset), *((name, f"{name} {value}") for name, value in report.tags.items())]


def lists(levels: Sequence[Level]) -> tuple[list[str], list[list[str]]]:
    """Make titles and rows of the table; columns with nothing in them are left out."""
    columns = [(title, [tell(level) for level in levels]) for title, tell in _COLUMNS]
    kept = [(title, cells) for title, cells in columns if any(cells)]
    return [title for title, _ in kept], [[cells[row] for _, cells in kept] for row in range(len(levels))]


def _no_power(level: Level) -> str | None:
    return level.observation.power.reason


def _figure(value: float | None) -> str:
    """Write three digits that count, more where there are more before the point."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _of(part: Callable[[Level], Distribution | None], mark: Callable[[Distribution], float]) -> Callable[[Level], str]:
    def tell(level: Level) -> str:
        found = part(level)
        return "" if found is None else _figure(mark(found))

    return tell


def _count(take: Callable[[Level], int]) -> Callable[[Level], str]:
    return lambda level: str(take(level)) if take(level) else ""


def _latency(level: Level) -> Distribution | None:
    return level.summary.latency_ms


def _first(level: Level) -> Distribution | None:
    return level.summary.first_token_ms


def _between(level: Level) -> Distribution | None:
    return level.summary.inter_token_ms


def _lag(level: Level) -> Distribution | None:
    return level.summary.send_lag_ms


_COLUMNS: Sequence[tuple[str, Callable[[Level], str]]] = (
    ("clients", lambda level: "" if level.concurrency is None else str(level.concurrency)),
    ("rate/s", lambda level: _figure(level.rate)),
    ("requests", lambda level: str(level.summary.requests)),
    ("failed", _count(lambda level: level.summary.failed)),
    ("rejected", _count(lambda level: level.summary.rejected)),
    ("retries", _count(lambda level: level.summary.retries)),
    ("requests/s", lambda level: _figure(level.summary.requests_per_second)),
    ("items/s", lambda level: _figure(level.summary.items_per_second)),
    ("tokens/s", lambda level: _figure(level.summary.tokens_per_second)),
    ("p50 ms", _of(_latency, lambda each: each.p50)),
    ("p90 ms", _of(_latency, lambda each: each.p90)),
    ("p99 ms", _of(_latency, lambda each: each.p99)),
    ("max ms", _of(_latency, lambda each: each.maximum)),
    ("first token p50", _of(_first, lambda each: each.p50)),
    ("first token p99", _of(_first, lambda each: each.p99)),
    ("next token p50", _of(_between, lambda each: each.p50)),
    ("next token p99", _of(_between, lambda each: each.p99)),
    ("send lag p99", _of(_lag, lambda each: each.p99)),
    ("W", lambda level: _figure(level.observation.power.mean_w)),
    ("J/request", lambda level: _figure(level.observation.power.joules_per_request)),
)
