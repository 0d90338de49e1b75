"""Attempts: which failures are tried again, and what is noted of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from forge.core.action import Action
from forge.core.errors import ActionFailed, HostError
from forge.core.tool import Content, TreeContent
from forge.execution.attempt import Attempts
from forge.execution.executor import Outcome

TEST = Action(("check",), mnemonic="Test")


class Failing:
    """An executor whose first runs fail."""

    def __init__(self, failures: int, error: type[Exception] = ActionFailed) -> None:
        self.left, self.error = failures, error
        self.runs = 0

    def run(
        self,
        action: Action,
        inputs: Mapping[str, Content],
        root: TreeContent | None,
        progress: Callable[[int, int], None],
    ) -> Outcome:
        self.runs += 1
        if self.left:
            self.left -= 1
            raise self.error(f"run {self.runs}")
        return Outcome({}, "well")

    def stop(self) -> None:
        self.left = -1


def attempt(executor: Failing, count: int, action: Action = TEST) -> Attempts:
    attempts = Attempts(executor, count)
    outcome = attempts.run(action, {}, None, lambda done, total: None)

    assert "well" == outcome.log
    return attempts


def test_a_pass_after_failures_is_noted_with_them() -> None:
    attempts = attempt(Failing(2), 3)

    assert ["run 1", "run 2"] == [str(error) for error in attempts.failures[TEST]]


def test_a_test_that_passes_is_run_once() -> None:
    executor = Failing(0)

    assert {} == attempt(executor, 3).failures
    assert 1 == executor.runs


def test_the_last_failure_is_the_verdict() -> None:
    executor = Failing(5)
    with pytest.raises(ActionFailed, match="run 3"):
        attempt(executor, 3)

    assert 3 == executor.runs


@pytest.mark.parametrize(
    ("executor", "action"),
    [(Failing(1), Action(("make",))), (Failing(1, HostError), TEST)],
    ids=["no test", "a fault of the machine"],
)
def test_what_is_no_failed_test_is_not_tried_again(executor: Failing, action: Action) -> None:
    with pytest.raises((ActionFailed, HostError), match="run 1"):
        attempt(executor, 3, action)


def test_stopping_reaches_what_runs() -> None:
    executor = Failing(1)
    Attempts(executor, 2).stop()

    assert -1 == executor.left
