"""Requests that come at about the same time share a run of the model; none is lost, none gets another's answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge_runtime import BaseServer, Generation, Request
from forge_runtime.config import Config, Params
from forge_runtime.worker import Batching, Job, QueueFullError, Worker
from tests.runtime.fake import Client, FakeBackend, make_config, serving, wait_for


def config(batch_size: int = 8, wait_ms: float = 200, **server: float) -> Config:
    params = Params(batch_size=batch_size, batch_wait_ms=wait_ms, max_length=128)
    return make_config(server=server, params=params)


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def ask(client: Client, pool: ThreadPoolExecutor, prompts: Sequence[Sequence[str]]) -> list[object]:
    return [reply.json for reply in pool.map(lambda group: client.infer(*group), prompts)]


def test_requests_that_come_together_run_together(backend: FakeBackend, pool: ThreadPoolExecutor) -> None:
    with serving(backend, config()) as client:
        before = len(backend.batches)
        answers = ask(client, pool, [[f"p{number}"] for number in range(8)])

        assert answers == [{f"p{number}": f"P{number}"} for number in range(8)]
        assert len(backend.batches) - before == 1


def test_a_full_batch_does_not_wait(backend: FakeBackend, pool: ThreadPoolExecutor) -> None:
    with serving(backend, config(batch_size=2, wait_ms=10_000)) as client:
        started = time.monotonic()
        ask(client, pool, [["a"], ["b"]])

        assert time.monotonic() - started < 5


def test_a_batch_that_does_not_fill_up_waits_no_longer_than_it_may(backend: FakeBackend) -> None:
    with serving(backend, config(wait_ms=50)) as client:
        started = time.monotonic()
        client.infer("alone")

        assert 0.05 <= time.monotonic() - started < 1


def test_who_comes_alone_does_not_wait_again(backend: FakeBackend) -> None:
    with serving(backend, config(wait_ms=2000)) as client:
        client.infer("first")
        started = time.monotonic()
        client.infer("second")

        assert time.monotonic() - started < 1.5


def test_latency_mode_runs_one_request_at_a_time(backend: FakeBackend, pool: ThreadPoolExecutor) -> None:
    with serving(backend, config(mode="latency")) as client:  # type: ignore[arg-type]
        before = len(backend.batches)
        ask(client, pool, [[f"p{number}"] for number in range(8)])

        assert len(backend.batches) - before == 8


def test_prompts_of_one_request_are_not_torn_from_their_answers(backend: FakeBackend, pool: ThreadPoolExecutor) -> None:
    groups = [[f"p{number}-{index}" for index in range(number % 4 + 1)] for number in range(24)]
    with serving(backend, config(batch_size=4, wait_ms=5)) as client:
        answers = ask(client, pool, groups)

        assert answers == [{prompt: prompt.upper() for prompt in group} for group in groups]
        assert max(map(len, backend.batches)) == 4


def test_each_request_of_a_batch_has_its_own_gen(backend: FakeBackend, pool: ThreadPoolExecutor) -> None:
    with serving(backend, config(batch_size=2, wait_ms=5000)) as client:
        asked = [partial(client.infer, "a", gen={"max_new_tokens": 3}), partial(client.infer, "b")]
        list(pool.map(lambda call: call(), asked))

        assert len(backend.batches[-1]) == 2
        assert {sampling.max_new_tokens for sampling in backend.samplings[-2:]} == {3, None}


def test_a_refused_prompt_does_not_refuse_its_neighbours(backend: FakeBackend, pool: ThreadPoolExecutor) -> None:
    with serving(backend, config(batch_size=3, wait_ms=5000)) as client:
        replies = list(pool.map(client.infer, ["!long", "a", "b"]))

        assert [reply.status for reply in replies] == [400, 200, 200]
        assert len(backend.batches[-1]) == 3


def test_a_prompt_that_breaks_the_backend_does_not_break_its_neighbours(
    backend: FakeBackend, pool: ThreadPoolExecutor
) -> None:
    with serving(backend, config(batch_size=3, wait_ms=5000)) as client:
        replies = list(pool.map(client.infer, ["!raise", "a", "b"]))

        assert [reply.status for reply in replies] == [500, 200, 200]


def test_a_client_that_leaves_does_not_end_its_neighbours(backend: FakeBackend, pool: ThreadPoolExecutor) -> None:
    with serving(backend, config(batch_size=2, wait_ms=5000)) as client:
        left = pool.submit(client.send, "POST", "/api/infer", b'{"prompts": "!wait"}', {"x-request-timeout": "0.3"})
        stayed = pool.submit(client.infer, "a")

        assert left.result().status == 504
        assert stayed.result().json == {"a": "A"}
        assert backend.cancelled.wait(5)


def test_a_handler_that_overrides_infer_alone_gets_one_request_at_a_time(
    backend: FakeBackend, pool: ThreadPoolExecutor
) -> None:
    class Handler(BaseServer):
        def infer(self, request: Request) -> Sequence[Generation]:
            return [Generation(f"<{prompt}>", 1, 1) for prompt in request.prompts]

    with serving(backend, config(), handler=Handler) as client:
        answers = ask(client, pool, [["a"], ["b"]])

        assert answers == [{"a": "<a>"}, {"b": "<b>"}]


def test_more_items_than_a_request_may_bring_are_refused(backend: FakeBackend) -> None:
    with serving(backend, config(max_items=2)) as client:
        refused = client.infer("a", "b", "c")

        assert (refused.status, refused.error["code"]) == (413, "too_many_items")


def test_a_full_queue_is_said_at_once(backend: FakeBackend, pool: ThreadPoolExecutor) -> None:
    with serving(backend, config(batch_size=1, queue_size=2)) as client:
        held = [pool.submit(client.infer, "!wait")]
        assert backend.running.wait(5)
        held += [pool.submit(client.infer, name) for name in ("a", "b")]
        wait_for(lambda: client.metric("forge_queue_depth") == 2)
        started = time.monotonic()

        refused = client.infer("c")

        assert (refused.status, refused.error["code"], refused.headers["retry-after"]) == (429, "queue_full", "1")
        assert time.monotonic() - started < 1
        backend.gate.set()
        assert [reply.result().status for reply in held] == [200, 200, 200]


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_a_deadline_that_is_none_is_refused(backend: FakeBackend, text: str) -> None:
    with serving(backend) as client:
        refused = client.send("POST", "/api/infer", b'{"prompts": "a"}', {"x-request-timeout": text})

        assert (refused.status, refused.error["param"]) == (400, "x-request-timeout")


Run = Callable[[Sequence[Job]], None]


def run_all(jobs: Sequence[tuple[str, int]], batching: Batching) -> list[list[tuple[str, int]]]:
    """Queue jobs before the thread starts; return the batches that it made of them."""
    batches: list[list[tuple[str, int]]] = []
    done = threading.Semaphore(0)

    def run(batch: Sequence[Job]) -> None:
        batches.append([(str(job.lane), job.items) for job in batch])
        for job in batch:
            job.future.set_result(None)
            done.release()

    worker = Worker(1000, batching)
    for lane, items in jobs:
        worker.submit(Job(run, lane=lane, items=items))
    worker.start(lambda: True)
    for _ in jobs:
        assert done.acquire(timeout=5)
    worker.stop(5)
    return batches


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 6)), max_size=20), st.integers(1, 8))
def test_a_batch_holds_one_lane_and_no_more_than_fits_and_keeps_the_order(
    jobs: list[tuple[str, int]], size: int
) -> None:
    batches = run_all(jobs, Batching(size))

    assert sorted(job for batch in batches for job in batch) == sorted(jobs)
    assert all(len({lane for lane, _ in batch}) == 1 for batch in batches)
    assert all(sum(items for _, items in batch) <= size for batch in batches if len(batch) > 1)
    waiting = list(jobs)
    for batch in batches:
        assert batch[0] == waiting[0]
        for job in batch:
            waiting.remove(job)


def test_idle_work_gives_way_to_requests() -> None:
    order: list[str] = []
    ended = threading.Event()

    def noting(name: str) -> Run:
        def run(jobs: Sequence[Job]) -> None:
            order.append(name)
            jobs[0].future.set_result(None)
            if name == "idle":
                ended.set()

        return run

    worker = Worker(10)
    worker.submit_idle(Job(noting("idle")))
    for name in ("a", "b"):
        worker.submit(Job(noting(name)))
    worker.start(lambda: True)

    assert ended.wait(5)
    assert order == ["a", "b", "idle"]
    worker.stop(5)
    with pytest.raises(QueueFullError):
        worker.submit_idle(Job(noting("late")))
