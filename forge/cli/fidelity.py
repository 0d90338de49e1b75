"""The report of a converted model: built when it is asked for, shown as a table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from forge.cli.building import settings_of
from forge.cli.console import Console
from forge.cli.failure import combined
from forge.cli.options import merged
from forge.cli.session import Session
from forge.core.errors import UserError
from forge.core.provider import ModelInfo
from forge.core.tool import FileContent

Row = tuple[str, ...]

_TEXT = 40
"""Characters of a prompt that are shown."""


def model_report(session: Session, text: str, given: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Build the report of the one model that a label names; None when it names no model."""
    flags = merged(given, session.workspace)
    settings = settings_of(flags)
    graph = session.load(session.patterns([text]), settings)
    actions = session.analyze(graph)
    found = [actions.providers[label] for label in graph.requested if label in actions.providers]
    if len(found) != 1 or not isinstance(found[0], ModelInfo):
        return None
    report = found[0].report
    if report is None:
        hint = "It is of the conversions: see `forge query 'kind(convert, //...)'`"
        raise UserError(f"`{text}` is a model as it came, there is no report", hint=hint)
    console = Console.make(flags.get("progress") or "auto", flags.get("color") or "auto", os.environ)
    with console, session.locked(settings):
        try:
            builder = session.builder(settings, console)
            run = builder.build(actions, [report])
        finally:
            session.save()
    if run.failures:
        raise combined(run)
    content = builder.content(run, report)
    assert isinstance(content, FileContent)
    table: Mapping[str, Any] = json.loads(session.store.read(content.digest))
    return table


def summary_rows(report: Mapping[str, Any]) -> list[Row]:
    """List what a report says of the whole model."""
    size = report["size"]
    rows: list[Row] = [("format", f"{report['format']} {report['precision']}")]
    rows.append(("size", f"{size['converted']} bytes, {size['ratio']} of {size['original']}"))
    rows += [(_words(name), _figure(value)) for name, value in report["logits"].items()]
    rows += [(f"agreement, {_words(name)}", _figure(value)) for name, value in report["agreement"].items()]
    rows.append(("tools", ", ".join(f"{name} {version}" for name, version in report["tools"].items())))
    return rows


def detail_rows(report: Mapping[str, Any]) -> list[Row]:
    """List the figures of each prompt or sample, under a heading."""
    details = report.get("prompts") or report.get("samples") or []
    if not details:
        return []
    names = [name for name in details[0] if name != "prompt"]
    names += ["prompt"] if "prompt" in details[0] else []
    return [tuple(_words(name) for name in names), *(tuple(_figure(each[name]) for name in names) for each in details)]


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _figure(value: object) -> str:
    if value is None:
        return "not finite"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return " ".join(value.split())[:_TEXT]
    return f"{value:.4g}" if isinstance(value, float) else str(value)
