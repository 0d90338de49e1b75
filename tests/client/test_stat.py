from __future__ import annotations

import statistics
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge_client.call import Tally
from forge_client.sender import Sample
from forge_client.stat import distribution, histogram, percentile, summarize

TIMES = st.lists(st.floats(0, 1e4), min_size=2, max_size=60)


@given(TIMES, st.integers(1, 99))
def test_a_percentile_is_that_of_the_statistics_module(values: list[float], percent: int) -> None:
    expected = statistics.quantiles(values, n=100, method="inclusive")[percent - 1]

    assert pytest.approx(expected, rel=1e-9, abs=1e-9) == percentile(sorted(values), percent / 100)


@given(TIMES, st.floats(0, 1))
def test_a_percentile_lies_between_the_least_and_the_greatest(values: list[float], share: float) -> None:
    assert min(values) <= percentile(sorted(values), share) <= max(values)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([7.0], 0.99, 7.0), ([1.0, 3.0], 0.5, 2.0), ([1.0, 2.0, 3.0, 4.0, 5.0], 0.9, 4.6), ([1.0, 2.0], 1.0, 2.0)],
)
def test_percentiles_of_a_few_values(values: list[float], share: float, expected: float) -> None:
    assert pytest.approx(expected) == percentile(values, share)


def test_a_distribution_is_in_milliseconds() -> None:
    found = distribution([0.004, 0.001, 0.002, 0.003, 0.005])

    assert found is not None
    assert (5, 3.0, 1.0, 3.0, 4.6, 4.96, 5.0) == (
        found.count, found.mean, found.minimum, found.p50, found.p90, found.p99, found.maximum,
    )  # fmt: skip


def test_nothing_has_no_distribution() -> None:
    assert distribution([]) is None
    assert histogram([]) is None


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=200))
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    found = histogram(values)

    assert found is not None
    assert len(values) == sum(found.counts)
    assert len(found.edges) == len(found.counts) + 1
    assert list(found.edges) == sorted(found.edges)


def sample(due: float, ended: float, kind: str = "", **fields: object) -> Sample:
    tally = None if kind else Tally(items=2, prompt_tokens=3, generated_tokens=4)
    return Sample(due, sent=due, ended=ended, kind=kind, text=f"{kind}!", tally=tally, **fields)  # type: ignore[arg-type]


def test_a_summary_counts_what_was_answered_and_what_was_not() -> None:
    samples = [
        sample(0.0, 0.5),
        sample(0.0, 1.5, retries=2),
        sample(0.0, 9.0, "rejected"),
        sample(0.0, 9.0, "reset"),
        sample(0.0, 9.0, "reset"),
    ]
    found = summarize(samples, 2.0)

    assert (5, 2, 1, 2, 2) == (found.requests, found.answered, found.rejected, found.failed, found.retries)
    assert {"rejected": 1, "reset": 2} == found.errors
    assert {"rejected": "rejected!", "reset": "reset!"} == found.examples
    assert (1.0, 2.0, 4.0) == (found.requests_per_second, found.items_per_second, found.tokens_per_second)


def test_latencies_are_those_of_good_answers_from_when_they_were_due() -> None:
    found = summarize([sample(1.0, 1.25), sample(1.0, 99.0, "timeout")], 2.0)

    assert found.latency_ms is not None
    assert (1, 250.0) == (found.latency_ms.count, found.latency_ms.maximum)


def test_times_of_tokens_are_told_where_there_are_some() -> None:
    found = summarize([sample(1.0, 2.0, first=1.1, gaps=array("d", [0.02, 0.04])), sample(1.0, 2.0)], 2.0)

    assert found.first_token_ms is not None and found.inter_token_ms is not None
    assert (100.0, 30.0) == (found.first_token_ms.p50, found.inter_token_ms.mean)


def test_tokens_of_which_some_are_not_known_are_not_added_up() -> None:
    unknown = Sample(0.0, ended=1.0, tally=Tally(items=1))

    assert summarize([sample(0.0, 1.0), unknown], 1.0).tokens_per_second is None
