"""`forge doctor`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict

import click

from forge.cli.checkup.finding import Finding, found
from forge.cli.checkup.machine import Machine
from forge.cli.checkup.store import Home
from forge.cli.checkup.workspace import WorkspaceCheck
from forge.cli.options import CONTEXT, working_folder
from forge.cli.session import Session
from forge.core.errors import HostError, UsageError


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge doctor
  forge doctor --network        asks each source too, five seconds each at most
  forge doctor --output=json | jq '.findings[] | select(.status != "ok")'""",
)
@click.option("--network", is_flag=True, help="Also ask the sources of packages whether they are there.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Form.")
def command(network: bool, output: str) -> int:
    """Check what a build needs here: the machine, the store, and the workspace where there is one.

    Each line is `ok`, a `warning` (builds work, and something will not), or a `fault` with what to do about it.
    Exits with 0 when this machine can build, with 36 when it cannot.
    """
    findings = []
    for finding in _look(network=network):
        findings.append(finding)
        if output == "text":
            click.echo(_line(finding))
    faults = sum(finding.status == "fault" for finding in findings)
    if output == "json":
        table = {"schema": 1, "can_build": not faults, "findings": [asdict(each) for each in findings]}
        click.echo(json.dumps(table, indent=2, ensure_ascii=False))
    warnings = sum(finding.status == "warning" for finding in findings)
    verdict = f"This machine cannot build: {_count(faults, 'fault')}" if faults else "This machine can build"
    click.echo(verdict + (f", {_count(warnings, 'warning')}" if warnings else ""), err=True)
    return HostError.exit_code if faults else 0


def _look(*, network: bool) -> Iterator[Finding]:
    yield from found(Machine(os.environ).checks())
    yield from found(Home(os.environ).checks())
    try:
        session = Session(working_folder(), os.environ)
    except UsageError:
        yield Finding("workspace", "ok", "None here; `forge init` makes one")
        return
    yield from found(WorkspaceCheck(session, network).checks())


def _line(finding: Finding) -> str:
    head = f"{finding.status:<8} {finding.check:<10} {finding.text}"
    return f"{head}\n{'':<20}hint: {finding.hint}" if finding.hint else head


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"
