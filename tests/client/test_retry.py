"""When a request is sent again, and when that is left."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterable

import pytest

from forge_client.call import Asking, Call
from forge_client.connection import Timeouts
from forge_client.dataset import Prompts
from forge_client.infer import infer_calls
from forge_client.sender import Retries, Sample, Sender
from tests.client.fake import QUICK, Asked, FakeServer, Reply, echo, head, reply, serving, unused_port

EAGER = Retries(count=3, first=0.001)


def call_for(fake: FakeServer) -> Call:
    return infer_calls(Asking(fake.server.address), Prompts(("a",)))[0]


def send(fake: FakeServer, retries: Retries = EAGER, timeouts: Timeouts = QUICK) -> Sample:
    """Send one request to its end."""

    async def run() -> Sample:
        sender = Sender(fake.server.connection(timeouts), retries, random.Random(0))
        try:
            return await sender.send(call_for(fake), asyncio.get_running_loop().time())
        finally:
            sender.close()

    return asyncio.run(run())


def at_first(*replies: Reply) -> Callable[[Asked], Reply]:
    """Answer so at first, and well from then on."""
    rest: Iterable[Reply | None] = itertools.chain(replies, itertools.repeat(None))
    found = iter(rest)
    return lambda asked: next(found) or echo(asked)


BUSY = reply({"error": {"message": "Full"}}, 429)
DRAINING = reply(b"", 503)


@pytest.mark.parametrize(
    "replies",
    [(BUSY,), (DRAINING, BUSY), (Reply((), "hang up"), Reply((), "reset")), (BUSY, BUSY, BUSY)],
    ids=["429", "503 and 429", "lost connections", "three times"],
)
def test_what_has_had_no_answer_is_sent_again(replies: tuple[Reply, ...]) -> None:
    with serving(at_first(*replies)) as fake:
        sample = send(fake)

    assert ("", len(replies), len(replies) + 1) == (sample.kind, sample.retries, len(fake.asked))


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (reply(b"", 500), "http_500"),
        (reply(b"", 400), "http_400"),
        (reply(b"", 504), "http_504"),
        (reply(b"{}"), "answer"),
        (reply(b"<html>"), "answer"),
        (Reply(((0, head(200, {"content-length": "9"}) + b"a"),), "hang up"), "truncated"),
    ],
    ids=["500", "400", "504", "no answer in it", "no JSON", "half of it"],
)
def test_what_has_had_an_answer_is_not_sent_again(script: Reply, kind: str) -> None:
    with serving(lambda asked: script) as fake:
        sample = send(fake)

    assert (kind, 0, 1) == (sample.kind, sample.retries, len(fake.asked))


def test_a_late_answer_is_not_asked_for_again() -> None:
    with serving(lambda asked: Reply((), "hold")) as fake:
        sample = send(fake, timeouts=Timeouts(1, 0.05, 1))

    assert ("first_byte_timeout", 0, 1) == (sample.kind, sample.retries, len(fake.asked))


def test_there_is_an_end_to_it() -> None:
    with serving(lambda asked: BUSY) as fake:
        sample = send(fake)

    assert ("rejected", "Status 429: Full", 3, 4) == (sample.kind, sample.text, sample.retries, len(fake.asked))


def test_a_server_that_is_gone_is_given_up() -> None:
    fake = FakeServer(echo, unused_port())

    assert ("refused", 3) == ((sample := send(fake)).kind, sample.retries)


def test_where_rejection_is_a_result_it_is_not_sent_again() -> None:
    with serving(lambda asked: BUSY) as fake:
        sample = send(fake, Retries(count=3, first=0.001, rejected=False))

    assert ("rejected", 0, 1) == (sample.kind, sample.retries, len(fake.asked))


def test_the_server_says_how_long_to_wait_and_the_client_how_long_at_most() -> None:
    patient = reply(b"", 503, headers={"Retry-After": "3600"})
    with serving(at_first(patient)) as fake:
        started = time.monotonic()
        sample = send(fake, Retries(count=1, first=0.001, longest=0.1))

    assert "" == sample.kind
    assert 0.1 <= time.monotonic() - started < 1.0


def test_pauses_grow_differ_and_have_an_end() -> None:
    draw = random.Random(1)
    pauses = [[Retries().pause(number, None, draw) for _ in range(20)] for number in range(12)]

    assert all(len(set(group)) == 20 for group in pauses[:5])
    assert all(max(before) < max(after) for before, after in itertools.pairwise(pauses[:6]))
    assert max(max(group) for group in pauses) <= 10.0


def test_the_wait_is_part_of_the_latency() -> None:
    with serving(at_first(reply(b"", 429, headers={"Retry-After": "1"}))) as fake:
        sample = send(fake, Retries(first=0.001, longest=0.05))

    assert sample.ended - sample.due >= 0.05
