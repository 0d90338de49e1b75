from __future__ import annotations

import pytest

from forge_client.bench import Tolerance
from forge_client.error import UsageFault
from forge_client.sweep import steps


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4", (4,)),
        ("1:4", (1, 2, 3, 4)),
        ("2:8:2", (2, 4, 6, 8)),
        ("1:8:3", (1, 4, 7)),
        ("3:3", (3,)),
        ("1,2,4,16", (1, 2, 4, 16)),
        ("8,1", (8, 1)),
    ],
)
def test_reads_a_sweep(text: str, expected: tuple[int, ...]) -> None:
    assert expected == steps(text, "--concurrency", whole=True)


def test_rates_need_not_be_whole_and_steps_do_not_drift() -> None:
    assert (0.1, 0.2, 0.3, 0.4) == steps("0.1:0.4:0.1", "--rate", whole=False)


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "a", "1:", ":4", "4:1", "1:4:0", "1:2:3:4", "1,2:3", "1.5", "1:9999", "inf", "nan", "1/0"]
)
def test_refuses_what_is_none(text: str) -> None:
    with pytest.raises(UsageFault):
        steps(text, "--concurrency", whole=True)


@pytest.mark.parametrize(
    ("text", "lost", "requests", "expected"),
    [("0", 0, 10, True), ("0", 1, 10, False), ("2", 2, 10, True), ("10%", 1, 10, True), ("10%", 2, 10, False)],
)
def test_a_tolerance_is_a_number_or_a_share(text: str, lost: int, requests: int, expected: bool) -> None:
    assert Tolerance.parse(text).covers(lost, requests) is expected


@pytest.mark.parametrize("text", ["", "-1", "x", "101%", "%", "nan%"])
def test_a_tolerance_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageFault):
        Tolerance.parse(text)
