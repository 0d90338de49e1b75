"""What a build's failures come to: one error, with places and the gravest exit code."""

from __future__ import annotations

import sys

from forge.core.errors import ActionFailed, Fault, ForgeError, TestsFailed
from forge.core.graph import ActionGraph
from forge.core.target import TargetGraph
from forge.execution.run import Run


def placed(run: Run, graph: TargetGraph) -> Run:
    """Give each failed action the place of its target."""
    places = {str(label): target.place for label, target in graph.targets.items()}
    for error in run.failures.values():
        error.faults = tuple(
            Fault(f"`{fault.place}`: {fault.text}", places[fault.place], fault.hint) if fault.place in places else fault
            for fault in error.faults
        )
    return run


def failure_of(run: Run, actions: ActionGraph) -> ForgeError | None:
    """Make the error of a build or test; None when nothing failed."""
    if not run.failures:
        return None
    errors = list(run.failures.values())
    tests = all(actions.actions[name].mnemonic == "Test" for name in run.failures)
    if tests and all(isinstance(error, ActionFailed) for error in errors):
        return TestsFailed(*[fault for error in errors for fault in error.faults])
    return combined(run)


def combined(run: Run) -> ForgeError:
    """Make one error of a run's failures, with the gravest exit code."""
    errors = list(run.failures.values())
    if len(errors) == 1:
        return errors[0]
    for error in errors:
        if isinstance(error, ActionFailed) and error.log:
            print(error.log, file=sys.stderr)
    together = ForgeError(*[fault for error in errors for fault in error.faults])
    together.exit_code = max(error.exit_code for error in errors)
    return together
