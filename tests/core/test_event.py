from __future__ import annotations

from forge.core.action import Action
from forge.core.event import ActionFinished, ActionProgress, ActionStarted, Event, Listener, Plan, Warned


def test_events_are_values_that_any_list_records() -> None:
    action = Action(argv=("x",))
    seen: list[Event] = []
    listener: Listener = seen.append
    for event in (Plan(1), ActionStarted("a", action), ActionProgress("a", 1, 2), Warned("w")):
        listener(event)
    listener(ActionFinished("a", action, "ran"))

    assert seen[-1] == ActionFinished("a", action, "ran", seconds=0.0, log="")
