"""What `forge test` does beside building: runs by number, attempts, and what is told of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from forge.cli.exporting import replace_file
from forge.cli.junit import Suite, read_cases, render_junit
from forge.cli.report import TargetReport
from forge.core.action import Action
from forge.core.artifact import Artifact, Derived
from forge.core.errors import ActionFailed, UsageError
from forge.core.event import ActionFinished, Event
from forge.core.graph import ActionGraph
from forge.core.label import Label
from forge.core.provider import ImageInfo, Provider, TestInfo
from forge.core.tool import FileContent
from forge.execution.attempt import Attempts
from forge.execution.builder import Builder
from forge.execution.docker_executor import CONTAINER, IMAGE
from forge.execution.run import Run

RUN = "FORGE_TEST_RUN"
"""Variable that has a run's number, from the second on: so the runs have keys of their own, and really run."""


@dataclass(slots=True)
class Testing:
    """The tests of one command; listens to its events."""

    __test__ = False

    output: Literal["summary", "errors", "all"] = "errors"
    runs: int = 1
    attempts: int = 1
    junit: Path | None = None
    _finished: dict[str, ActionFinished] = field(default_factory=dict)
    tried: Attempts | None = None
    """What runs them, and notes what failed."""

    @classmethod
    def of(cls, flags: Mapping[str, Any]) -> Testing:
        """Take what tests need out of merged flags."""
        junit = Path(flags["junit"]) if flags.get("junit") else None
        if junit is not None and not junit.absolute().parent.is_dir():
            raise UsageError(f"`--junit={junit}` is not a file that can be written", hint="Make its folder first")
        attempts = flags.get("flaky_test_attempts") or 1
        return cls(flags.get("test_output") or "errors", flags.get("runs_per_test") or 1, attempts, junit)

    @property
    def is_told(self) -> bool:
        """Say whether more than verdicts is asked for, which somebody must come up with each time."""
        return self.junit is not None or self.output == "all"

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, ActionFinished) and event.action.mnemonic == "Test":
            self._finished[event.name] = event

    def contained(self, actions: ActionGraph) -> ActionGraph:
        """Have tests boot images themselves, as containers: actions of their own, whose verdicts are kept apart."""
        by_root = {
            info.root: info.layout
            for info in actions.providers.values()
            if isinstance(info, ImageInfo) and info.root is not None and info.layout is not None
        }
        table = dict(actions.actions)
        for name, action in table.items():
            if action.mnemonic == "Test" and action.root in by_root:
                inputs = tuple(sorted([*action.inputs, (IMAGE, by_root[action.root])], key=lambda item: item[0]))
                # The other variables are the image's own, which it has there.
                env = tuple(item for item in action.env if item[0].startswith("FORGE_"))
                properties = tuple(sorted([*action.properties, CONTAINER]))
                table[name] = replace(action, root=None, inputs=inputs, env=env, properties=properties)
        return ActionGraph(table, actions.providers, actions.skipped)

    def numbered(self, actions: ActionGraph, labels: Sequence[Label]) -> ActionGraph:
        """Add the further runs of tests, as outputs of the same targets."""
        table, providers = dict(actions.actions), dict(actions.providers)
        for label in labels:
            info = providers.get(label)
            if not isinstance(info, TestInfo) or not isinstance(info.report, Derived):
                continue
            files = dict(info.files)
            for number in range(2, self.runs + 1):
                action = table[info.report.action]
                name = f"{info.report.action}.{number}"
                env = tuple(sorted([*action.env, (RUN, str(number))]))
                table[name] = replace(action, env=env, description=f"{action.description}, run {number}")
                files[f"{label.name}.report.{number}.json"] = Derived(name, info.report.output)
            providers[label] = replace(info, files=files)
        return ActionGraph(table, providers, actions.skipped)

    def watch(self, builder: Builder) -> None:
        """Have a builder try tests as often as they may fail."""
        self.tried = Attempts(builder.scheduler.executor, self.attempts)
        builder.scheduler.executor = self.tried

    def marked(self, reports: Sequence[TargetReport], run: Run, actions: ActionGraph) -> list[TargetReport]:
        """Tell flaky tests from those that passed, and how many runs failed of those that did not."""
        found = []
        for report in reports:
            names = list(_runs(actions.providers[report.label]))
            failed = [name for name in names if name in run.failures]
            if failed and self.runs > 1:
                report = replace(report, note=f"{len(failed)} of {len(names)} runs failed")
            elif report.status == "built" and any(self._failures(actions.actions[name]) for name in names):
                report = replace(report, status="flaky")
            found.append(report)
        return found

    def tell(self, run: Run, actions: ActionGraph) -> None:
        """Print what the tests printed: of all of them, of those that failed, or nothing."""
        for name, event in self._finished.items():
            if self.output == "all" and event.log and name not in run.failures:
                print(f"{actions.actions[name].description}:\n{event.log.rstrip()}", file=sys.stderr)
        for error in run.failures.values():
            if self.output != "summary" and isinstance(error, ActionFailed) and error.log:
                print(error.log, file=sys.stderr)

    def write(self, builder: Builder, run: Run, actions: ActionGraph, labels: Sequence[Label]) -> None:
        """Write the file that CI reads, if one is asked for."""
        if self.junit is None:
            return
        suites = []
        for label in labels:
            for name, report in _runs(actions.providers[label]).items():
                number = dict(actions.actions[name].env).get(RUN, "1")
                title = str(label) if self.runs == 1 else f"{label} (run {number} of {self.runs})"
                suites.append(self._suite(title, name, report, builder, run, actions))
        replace_file(self.junit, render_junit(suites))

    def _suite(
        self, title: str, name: str, report: Artifact, builder: Builder, run: Run, actions: ActionGraph
    ) -> Suite:
        event = self._finished.get(name)
        seconds, log = (event.seconds, event.log) if event else (0.0, "")
        failures = self._failures(actions.actions[name])
        content = builder.content(run, report)
        if isinstance(content, FileContent):
            earlier = [f"Attempt {number} failed:\n{each.log}" for number, each in enumerate(failures, 1)]
            cases = read_cases(builder.store.read(content.digest))
            return Suite(title, "passed", cases, "", "\n".join([*earlier, log]), seconds, len(failures) + 1)
        error = run.failures.get(name)
        if error is None:
            return Suite(title, "skipped", fault="Not run: something else failed before")
        left = error.left if isinstance(error, ActionFailed) else {}
        cases = read_cases(left.get(report.output, b"")) if isinstance(report, Derived) else ()
        fault = "; ".join(each.text for each in error.faults)
        return Suite(title, "failed", cases, fault, log, seconds, max(len(failures), 1))

    def _failures(self, action: Action) -> list[ActionFailed]:
        return self.tried.failures.get(action, []) if self.tried else []


def _runs(provider: Provider) -> Mapping[str, Artifact]:
    """Name a test's actions, the first run's first, with the report of each."""
    return {artifact.action: artifact for artifact in provider.files.values() if isinstance(artifact, Derived)}
