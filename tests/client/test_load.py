"""Closed and open loops, against a server whose times are known."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable

import pytest

from forge_client.bench import Level, Outcome, Plan, Tolerance, bench
from forge_client.call import Asking
from forge_client.connection import Timeouts
from forge_client.dataset import Prompts
from forge_client.error import UsageFault
from forge_client.infer import infer_calls
from forge_client.loop import Bound, arrivals
from forge_client.sender import Retries
from forge_client.stat import Distribution
from tests.client.fake import QUICK, Asked, FakeServer, Reply, echo, late, reply, serving, unused_port

EAGER = Retries(count=3, first=0.001, longest=0.01)


def measure(fake: FakeServer, **plan: object) -> Outcome:
    """Measure with a data set of three prompts, without a warm-up unless there is one."""
    settings: dict[str, object] = {"warmup": 0, "timeouts": QUICK, "retries": EAGER, **plan}
    calls = infer_calls(Asking(fake.server.address), Prompts(("a", "b", "c")))
    return asyncio.run(bench(fake.server, calls, Plan(**settings), lambda name, record: None))  # type: ignore[arg-type]


def only(outcome: Outcome) -> Level:
    (level,) = outcome.levels
    return level


def latency(level: Level) -> Distribution:
    assert level.summary.latency_ms is not None
    return level.summary.latency_ms


def test_latency_is_that_of_the_server() -> None:
    with serving(late(0.02)) as fake:
        level = only(measure(fake, bound=Bound(10)))

    assert 10 == level.summary.answered
    assert 20 <= latency(level).minimum
    assert 20 <= latency(level).p50 < 60
    assert level.summary.requests_per_second <= 50


def test_a_closed_loop_has_so_many_in_flight_and_no_more() -> None:
    with serving(late(0.02)) as fake:
        level = only(measure(fake, concurrency=(4,), bound=Bound(20)))

    assert 4 == fake.most
    assert (20, 20) == (level.summary.answered, len(fake.posted))
    assert level.summary.requests_per_second <= 200


def test_a_data_set_is_gone_through_again_and_again() -> None:
    with serving(echo) as fake:
        measure(fake, bound=Bound(7))

    assert ["a", "b", "c", "a", "b", "c", "a"] == [each.json["prompts"][0] for each in fake.posted]  # type: ignore[index]


def test_a_warm_up_does_not_count() -> None:
    with serving(echo) as fake:
        level = only(measure(fake, bound=Bound(4), warmup=3))

    assert (7, 4) == (len(fake.posted), level.summary.requests)


def test_failures_of_the_warm_up_are_told_and_not_counted() -> None:
    answers = iter([reply(b"", 500), reply(b"", 500)])
    with serving(lambda asked: (next(answers, None) if asked.method == "POST" else None) or echo(asked)) as fake:
        outcome = measure(fake, bound=Bound(4), warmup=3)

    assert (2, True, 0) == (outcome.warmup_errors, outcome.good, only(outcome).summary.failed)


def test_a_level_ends_after_its_time_and_what_has_begun_is_finished() -> None:
    with serving(late(0.03)) as fake:
        level = only(measure(fake, concurrency=(2,), bound=Bound(None, 0.1)))

    assert level.summary.requests == level.summary.answered == len(fake.posted)
    assert 0.1 <= level.summary.seconds < 3
    assert level.summary.requests <= 8


def test_a_sweep_has_a_level_for_each_step() -> None:
    with serving(echo) as fake:
        outcome = measure(fake, concurrency=(1, 2, 3), bound=Bound(6))

    assert [(1, None, 6), (2, None, 6), (3, None, 6)] == [
        (level.concurrency, level.rate, level.summary.answered) for level in outcome.levels
    ]
    assert (True, "") == (outcome.good, outcome.stopped)


def test_a_sweep_ends_with_the_first_level_that_fails() -> None:
    def script(asked: Asked) -> Reply:
        return reply({"error": {"message": "Lost"}}, 500) if fake.running > 1 else late(0.005)(asked)

    with serving(script) as fake:
        outcome = measure(fake, concurrency=(1, 4, 8), bound=Bound(12))

    assert [1, 4] == [level.concurrency for level in outcome.levels]
    assert not outcome.good
    assert outcome.stopped.startswith("concurrency 4: ")
    assert "http_500" in outcome.stopped
    assert {"http_500": "Status 500: Lost"} == outcome.levels[1].summary.examples


def test_failures_within_the_tolerance_are_told_and_no_more() -> None:
    answers = itertools.count()
    with serving(lambda asked: reply(b"", 500) if next(answers) % 10 == 3 else echo(asked)) as fake:
        outcome = measure(fake, bound=Bound(10), tolerance=Tolerance(3))

    assert outcome.good
    assert only(outcome).summary.failed in (1, 2)


def test_a_sweep_ends_when_it_gets_too_slow() -> None:
    with serving(lambda asked: late(0.02 * max(1, fake.running))(asked)) as fake:
        outcome = measure(fake, concurrency=(1, 8, 9), bound=Bound(12), max_latency_ms=100.0)

    assert [1, 8] == [level.concurrency for level in outcome.levels]
    assert (True, "concurrency 8: p99 is above 100 ms") == (outcome.good, outcome.stopped)


def test_where_nothing_is_answered_it_gives_up_early() -> None:
    with serving(lambda asked: reply(b"", 500) if asked.method == "POST" else echo(asked)) as fake:
        outcome = measure(fake, bound=Bound(100_000))

    assert not outcome.good
    assert 10 == len(fake.posted) == only(outcome).summary.failed


def test_a_server_that_is_gone_is_an_end_too() -> None:
    outcome = measure(FakeServer(echo, unused_port()), bound=Bound(100_000))

    assert {"refused": 10} == only(outcome).summary.errors
    assert 30 == only(outcome).summary.retries


def test_retries_are_counted() -> None:
    answers = itertools.count()
    with serving(
        lambda asked: reply(b"", 429) if asked.method == "POST" and next(answers) % 2 else echo(asked)
    ) as fake:
        level = only(measure(fake, bound=Bound(5)))

    assert (5, 0) == (level.summary.answered, level.summary.failed)
    assert len(fake.posted) - 5 == level.summary.retries > 0


def test_what_is_no_fault_of_the_server_is_not_swallowed() -> None:
    calls = infer_calls(Asking(FakeServer(echo).server.address), Prompts(("a",)))

    def boom(name: str, record: object) -> None:
        raise UsageFault("on purpose")

    with serving(echo) as fake, pytest.raises(UsageFault, match="on purpose"):
        asyncio.run(bench(fake.server, calls, Plan(), boom))


def test_an_open_loop_sends_at_its_rate() -> None:
    with serving(echo) as fake:
        level = only(measure(fake, rates=(50.0,), bound=Bound(None, 0.4)))

    assert 20 == len(fake.posted) == level.summary.answered
    assert 0.38 <= level.summary.seconds < 3
    assert (None, 50.0, "rate 50/s") == (level.concurrency, level.rate, level.name)


def test_it_does_not_wait_for_answers() -> None:
    with serving(late(0.1)) as fake:
        level = only(measure(fake, rates=(100.0,), bound=Bound(12)))

    assert fake.most >= 5
    assert level.summary.seconds < 3


def test_it_ends_after_so_many_requests_too() -> None:
    with serving(echo) as fake:
        measure(fake, rates=(1000.0,), bound=Bound(7, 60.0))

    assert 7 == len(fake.posted)


def stalled(seconds: float) -> Callable[[Asked], Reply]:
    """A server that answers the first request late, and all others when that is done."""
    begun: list[float] = []

    def script(asked: Asked) -> Reply:
        found = echo(asked)
        if asked.method != "POST":
            return found
        begun.append(time.monotonic())
        left = max(0.0, begun[0] + seconds - begun[-1])
        return Reply(((left, found.pieces[0][1]),))

    return script


def test_a_stall_is_in_the_latency_of_all_that_were_due_meanwhile() -> None:
    """Coordinated omission: with one connection only one request is sent in that time, and all have waited."""
    with serving(stalled(0.2)) as fake:
        level = only(measure(fake, rates=(100.0,), bound=Bound(20), connections=1))

    assert level.summary.send_lag_ms is not None
    assert 200 <= latency(level).maximum
    assert 60 <= latency(level).p50
    assert 60 <= level.summary.send_lag_ms.p50


def test_a_rejection_is_a_result() -> None:
    answers = itertools.count()
    with serving(
        lambda asked: reply(b"", 429) if asked.method == "POST" and next(answers) % 2 else echo(asked)
    ) as fake:
        outcome = measure(fake, rates=(200.0,), bound=Bound(10), tolerance=Tolerance(5))

    summary = only(outcome).summary
    assert (10, 5, 5, 0, 0) == (len(fake.posted), summary.answered, summary.rejected, summary.failed, summary.retries)
    assert outcome.good


def test_rejections_count_against_the_tolerance() -> None:
    answers = itertools.count()
    with serving(
        lambda asked: reply(b"", 429) if asked.method == "POST" and next(answers) % 2 else echo(asked)
    ) as fake:
        assert not measure(fake, rates=(200.0,), bound=Bound(10), tolerance=Tolerance(4)).good


def test_what_is_never_answered_does_not_hold_it_up() -> None:
    hung = Timeouts(connect=1.0, first_byte=9.0, total=0.2)
    with serving(lambda asked: Reply((), "hold") if asked.method == "POST" else echo(asked)) as fake:
        started = time.monotonic()
        outcome = measure(fake, rates=(100.0,), bound=Bound(5), timeouts=hung)

    assert 5 == only(outcome).summary.failed
    assert time.monotonic() - started < 1.5


def test_even_arrivals_do_not_drift() -> None:
    found = list(itertools.islice(arrivals(50.0, None), 51))

    assert (0.0, 0.02, 1.0) == (found[0], found[1], found[50])


def test_arrivals_by_chance_are_the_same_for_the_same_seed_and_have_the_rate() -> None:
    found = list(itertools.islice(arrivals(100.0, random.Random(7)), 4001))
    gaps = [after - before for before, after in itertools.pairwise(found)]

    assert found == list(itertools.islice(arrivals(100.0, random.Random(7)), 4001))
    assert pytest.approx(0.01, rel=0.1) == sum(gaps) / len(gaps)
    assert pytest.approx(0.01, rel=0.1) == (sum((gap - 0.01) ** 2 for gap in gaps) / len(gaps)) ** 0.5
