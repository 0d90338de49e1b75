"""Tests that are tried again where they fail: what passes after that is flaky, and is not passed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from forge.core.action import Action
from forge.core.errors import ActionFailed
from forge.core.tool import Content, TreeContent
from forge.execution.executor import Executor, Outcome


@dataclass(slots=True)
class Attempts:
    """Runs actions by another executor, and a test up to `count` times until it passes."""

    executor: Executor
    count: int
    failures: dict[Action, list[ActionFailed]] = field(default_factory=dict)
    """Test -> what went wrong, each time that it failed."""

    def run(
        self,
        action: Action,
        inputs: Mapping[str, Content],
        root: TreeContent | None,
        progress: Callable[[int, int], None],
    ) -> Outcome:
        """Run it; the last failure where none of the attempts succeeds."""
        if action.mnemonic != "Test":
            return self.executor.run(action, inputs, root, progress)
        while True:
            try:
                return self.executor.run(action, inputs, root, progress)
            except ActionFailed as error:
                failed = self.failures.setdefault(action, [])
                failed.append(error)
                if len(failed) >= self.count:
                    raise

    def stop(self) -> None:
        """End what runs, and start no more."""
        self.executor.stop()
