"""What a build came to, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from forge.core.errors import Fault
from forge.core.label import Label

Status = Literal["built", "cached", "unchanged", "skipped", "failed", "flaky"]
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class TargetReport:
    """One target."""

    label: Label
    status: Status
    digest: str = ""
    """Of an image's manifest, a file, or a tree's root."""
    size: int = 0
    paths: tuple[str, ...] = ()
    """Links under the workspace."""
    note: str = ""
    """What else there is to say of it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One command."""

    command: str
    reports: Sequence[TargetReport]
    skipped: Mapping[Label, Fault]
    ran: Sequence[str]
    """Actions that ran."""
    cached: int
    """Actions that were found in the cache."""
    seconds: float
    remote: int = 0
    """Actions that were found in the remote cache, which are not among those cached here."""

    @property
    def summary(self) -> str:
        """Say it in one line."""
        count = len(self.reports)
        targets = f"{count} target{'' if count == 1 else 's'}"
        failed = sum(1 for report in self.reports if report.status == "failed")
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        if failed:
            return f"{failed} of {targets} failed{skipped}: {self._counts}"
        if not self.ran and not self.cached and not self.remote:
            return f"Nothing to do: {targets} up to date{skipped}"
        return f"{targets} up to date{skipped}: {self._counts}, {self.seconds:.1f} s"

    @property
    def _counts(self) -> str:
        remote = f", {self.remote} from the remote cache" if self.remote else ""
        return f"{_actions(len(self.ran))} ran, {self.cached} cached{remote}"


def _actions(count: int) -> str:
    return f"{count} action{'' if count == 1 else 's'}"


def render_text(outcome: Outcome) -> list[str]:
    """Write a line a target: label, digest, where."""
    if outcome.command == "test":
        words = {"built": "PASSED", "cached": "PASSED (cached)", "unchanged": "PASSED (cached)", "failed": "FAILED"}
        words["flaky"] = "FLAKY (passed after it had failed)"
        return [
            f"{report.label}  {words.get(report.status, report.status)}{f', {report.note}' if report.note else ''}"
            for report in outcome.reports
        ]
    return [
        "  ".join(filter(None, (str(report.label), report.digest or report.status, " ".join(report.paths))))
        for report in outcome.reports
    ]


def render_json(outcome: Outcome) -> str:
    """Write the whole outcome; the shape is `schema` 1 and only grows."""
    targets = [
        {
            "label": str(report.label),
            "status": report.status,
            "digest": report.digest,
            "outputs": list(report.paths),
        }
        for report in outcome.reports
    ]
    targets += [
        {"label": str(label), "status": "skipped", "digest": "", "outputs": [], "reason": fault.text}
        for label, fault in outcome.skipped.items()
    ]
    table = {
        "schema": SCHEMA,
        "command": outcome.command,
        "success": all(report.status != "failed" for report in outcome.reports),
        "actions": {"ran": len(outcome.ran), "cached": outcome.cached + outcome.remote, "remote": outcome.remote},
        "targets": targets,
    }
    return json.dumps(table, indent=2) + "\n"
