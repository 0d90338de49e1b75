from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from forge_client.exposition import Figure, figures
from forge_client.observation import Observation, Watch
from tests.client.fake import Asked, Reply, reply, serving


def observed(script: Callable[[Asked], Reply], *, steps: bool = False, seconds: float = 0.0) -> Observation:
    """What is seen in a run that answers four requests in two seconds, or takes `seconds` of the test."""
    with serving(script) as fake:

        async def run() -> Observation:
            watch = Watch(fake.server, steps, interval=0.02)
            await watch.begin()
            await asyncio.sleep(seconds)
            return await watch.end(2.0, 4)

        return asyncio.run(run())


def metrics(*texts: str) -> Callable[[Asked], Reply]:
    """Answer so, one after the other; the last one again and again."""
    rest = itertools.chain(texts, itertools.repeat(texts[-1]))
    return lambda asked: reply(next(rest).encode(), kind="text/plain") if asked.path == "/metrics" else reply(b"", 404)


POWER = 'forge_power_watts{{rail="total"}} {}\nforge_power_watts{{rail="gpu"}} 99\n'


def test_power_is_the_mean_between_the_first_and_the_last_look() -> None:
    found = observed(metrics(POWER.format(10), POWER.format(20))).power

    assert (15.0, 7.5, 2, None) == (found.mean_w, found.joules_per_request, found.samples, found.reason)


def test_power_is_looked_at_again_and_again() -> None:
    assert observed(metrics(POWER.format(10)), seconds=0.1).power.samples >= 4


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (metrics("forge_ready 1\n"), "`/metrics` has no `forge_power_watts`"),
        (metrics("forge_power_watts NaN\n"), "`/metrics` has no `forge_power_watts`"),
        (lambda asked: reply(b"", 404), "`/metrics` answers 404"),
        (lambda asked: Reply((), "hang up"), "`/metrics`: The server hung up without an answer"),
        (
            lambda asked: reply({"watts": None, "reason": "No sensor"}) if asked.path == "/api/power" else reply(b""),
            "No sensor",
        ),
    ],
    ids=["no figure", "not a number", "no metrics", "no answer", "the server's reason"],
)
def test_no_power_has_a_reason_and_is_never_zero(script: Callable[[Asked], Reply], reason: str) -> None:
    found = observed(script).power

    assert (None, None, reason) == (found.mean_w, found.joules_per_request, found.reason)


STEPS = """\
# HELP forge_step_seconds Time of each step
forge_step_seconds_bucket{{le="0.1",step="infer"}} {0}
forge_step_seconds_count{{step="infer"}} {0}
forge_step_seconds_sum{{step="infer"}} {1}
forge_step_seconds_count{{step="decode"}} 3
forge_step_seconds_sum{{step="decode"}} 0.3
"""


def test_steps_are_those_of_the_run_alone() -> None:
    found = observed(metrics(STEPS.format(10, 1.0), STEPS.format(14, 1.2)), steps=True).steps

    assert found is not None
    assert {"infer": (4, 50.0)} == {name: (step.count, step.mean_ms) for name, step in found.items()}


def test_steps_are_not_looked_at_unless_asked_for() -> None:
    assert observed(metrics(STEPS.format(10, 1.0), STEPS.format(14, 1.2))).steps is None


def test_reads_the_text_format() -> None:
    text = '# TYPE a gauge\na 1\nb{x="1",y="a\\"b\\\\c"} -2.5e3 1700000000\nc{} NaN\nd +Inf\nwhat is this\ne{x="1"} x\n'

    assert [
        Figure("a", {}, 1.0),
        Figure("b", {"x": "1", "y": 'a"b\\c'}, -2500.0),
        Figure("d", {}, float("inf")),
    ] == list(figures(text))
