"""What is said of a long download where there is no terminal."""

from __future__ import annotations

import io

from forge.cli.console import Console
from forge.core.action import Action
from forge.core.event import ActionFinished, ActionProgress, ActionStarted, Plan
from forge.core.label import Label

FETCH = Action(
    argv=("forge-tool", "fetch"), outputs=("torch.whl",), owner=Label("a", "b"), description="Fetch torch.whl"
)
MB = 10**6


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def told(*progress: tuple[float, int]) -> list[str]:
    """Say how far a download of 100 MB is at given seconds; the lines that come of it."""
    stream, clock = io.StringIO(), Clock()
    console = Console("plain", False, stream, clock=clock)
    console(Plan(1))
    console(ActionStarted("f", FETCH))
    for at, done in progress:
        clock.now = at
        console(ActionProgress("f", done, 100 * MB))
    console(ActionFinished("f", FETCH, "ran", 25.0))
    return stream.getvalue().splitlines()


def test_a_long_download_says_every_ten_seconds_how_far_it_is() -> None:
    lines = told((0, 0), (1, 4 * MB), (10, 40 * MB), (12, 48 * MB), (20, 80 * MB))

    assert lines == [
        "    Fetch torch.whl 40% of 100 MB, 4 MB/s, 15 s left",
        "    Fetch torch.whl 80% of 100 MB, 4 MB/s, 5 s left",
        "[1/1] Fetch torch.whl (100 MB) 25.0 s",
    ]


def test_what_an_earlier_call_left_counts_as_done_and_not_as_speed() -> None:
    assert told((0, 50 * MB), (10, 60 * MB))[0] == "    Fetch torch.whl 60% of 100 MB, 1 MB/s, 40 s left"


def test_a_download_that_begins_again_has_the_speed_of_what_came() -> None:
    assert told((0, 50 * MB), (1, 0), (10, 20 * MB))[0] == "    Fetch torch.whl 20% of 100 MB, 2 MB/s, 40 s left"


def test_a_short_download_has_one_line() -> None:
    assert told((0, 0), (3, 100 * MB)) == ["[1/1] Fetch torch.whl (100 MB) 25.0 s"]
