"""Power between two readings."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge_runtime.power.reader import Rail, Reading, SensorError, Span

RANGE = 65_532_610_987


def span(before: Rail, after: Rail, seconds: float = 2.0) -> Span:
    return Span(Reading(10.0, {"a": before}), Reading(10.0 + seconds, {"a": after}))


def test_energy_by_time_is_power() -> None:
    between = span(Rail(energy_uj=1_000_000), Rail(energy_uj=4_000_000))

    assert {"a": 1.5} == between.watts()


def test_what_a_sensor_says_stands_before_its_counter() -> None:
    between = span(Rail(watts=7.0, energy_uj=0), Rail(watts=8.0, energy_uj=4_000_000))

    assert ({"a": 8.0}, {"a": 4.0}) == (between.watts(), between.joules())


def test_a_rail_without_a_counter_has_its_power_all_the_time() -> None:
    assert {"a": 16.0} == span(Rail(watts=7.0), Rail(watts=8.0)).joules()


def test_a_total_leaves_out_what_another_rail_holds() -> None:
    rails = {"in": Rail(watts=5.0), "part": Rail(watts=2.0, counts=False)}
    between = Span(Reading(0.0, rails), Reading(1.0, rails))

    assert 5.0 == between.total(between.watts())


@given(st.integers(0, RANGE - 1), st.lists(st.integers(0, RANGE // 2), min_size=1, max_size=20))
def test_a_counter_that_starts_again_loses_nothing(start: int, steps: list[int]) -> None:
    values = [start]
    for step in steps:
        values.append((values[-1] + step) % RANGE)
    rails = [Rail(energy_uj=value, wraps_uj=RANGE) for value in values]

    assert steps == [span(*pair).energy_uj()["a"] for pair in itertools.pairwise(rails)]


@pytest.mark.parametrize("wraps", [None, 0, RANGE])
def test_a_counter_that_was_reset_is_no_energy(wraps: int | None) -> None:
    between = span(Rail(energy_uj=5_000, wraps_uj=wraps), Rail(energy_uj=0, wraps_uj=wraps))

    with pytest.raises(SensorError, match="counter of `a` was reset"):
        between.energy_uj()


def test_two_readings_at_once_have_no_power() -> None:
    with pytest.raises(SensorError, match="No time"):
        span(Rail(energy_uj=1), Rail(energy_uj=2), seconds=0.0).watts()
