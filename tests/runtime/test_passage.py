"""The way of one request through the threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest

from forge_runtime.passage import Passage
from forge_runtime.worker import Job, Worker

Withdrawn = list[tuple[Worker, Job]]


@pytest.fixture
def workers() -> Iterator[tuple[Worker, Worker]]:
    pair = Worker(1, name="first"), Worker(1, name="second")
    for each in pair:
        each.start(lambda: True)
    yield pair
    for each in pair:
        assert each.stop(5)


def job(call: Callable[[], Any]) -> Job:
    def run(jobs: Sequence[Job]) -> None:
        jobs[0].future.set_result(call())

    return Job(run)


def travel(work: Callable[[Passage, Withdrawn], Coroutine[Any, Any, Any]]) -> Any:
    async def go() -> Any:
        withdrawn: Withdrawn = []
        return await work(Passage(lambda worker, job: withdrawn.append((worker, job))), withdrawn)

    return asyncio.run(go())


def test_each_thread_hands_it_to_the_next(workers: tuple[Worker, Worker]) -> None:
    def name() -> str:
        return threading.current_thread().name

    async def work(passage: Passage, withdrawn: Withdrawn) -> Any:
        def then(found: str) -> None:
            passage.go(workers[1], job(lambda: (found, name())), passage.arrive)

        passage.go(workers[0], job(name), then)
        return await passage

    assert ("first", "second") == travel(work)


@pytest.mark.parametrize("place", ["job", "then"])
def test_what_a_thread_raises_ends_it(workers: tuple[Worker, Worker], place: str) -> None:
    def fail(*_: object) -> None:
        raise ValueError("on purpose")

    async def work(passage: Passage, withdrawn: Withdrawn) -> Any:
        passage.go(workers[0], job(fail if place == "job" else int), fail)
        return await passage

    with pytest.raises(ValueError, match="on purpose"):
        travel(work)


def test_cancelled_it_is_withdrawn_from_where_it_is_and_goes_no_further(workers: tuple[Worker, Worker]) -> None:
    running, release = threading.Event(), threading.Event()
    ran = []

    def wait() -> None:
        running.set()
        release.wait(5)

    async def work(passage: Passage, withdrawn: Withdrawn) -> Any:
        def then(_: object) -> None:
            passage.go(workers[1], job(lambda: ran.append("second")), passage.arrive)
            ran.append("then")

        held = job(wait)
        passage.go(workers[0], held, then)
        await asyncio.to_thread(running.wait, 5)
        passage.cancel()
        release.set()
        await asyncio.to_thread(held.future.result, 5)
        while not ran:
            await asyncio.sleep(0.001)
        return withdrawn == [(workers[0], held)], passage.cancelled()

    assert (True, True) == travel(work)
    assert ["then"] == ran


def test_what_comes_when_nobody_is_there_any_more_is_no_error(workers: tuple[Worker, Worker]) -> None:
    async def work(passage: Passage, withdrawn: Withdrawn) -> Passage:
        return passage

    travel(work).arrive("late")
