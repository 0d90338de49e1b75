"""Many processes, one store."""

from __future__ import annotations

import multiprocessing
import threading
import time
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

from forge.core.artifact import Artifact
from forge.core.errors import Interrupted
from forge.execution.claim import Claims
from tests.execution.workshop import Workshop


def build(folder: Path, home: Path, results: Queue[tuple[bytes, int]]) -> None:
    shop = Workshop(folder, home=home)
    row: list[Artifact] = [shop.write(f"s{n}", f"S{n}" * 100) for n in range(10)]
    for layer in range(4):
        row = [
            shop.action(f"l{layer}n{n}", row[n], row[n - 1], argv=["join", str(n)], outputs=(("o", "f/")[n % 2],))
            for n in range(10)
        ]
    top = shop.action("top", *row)
    run = shop.build(top, jobs=2)
    results.put((shop.text(run, top), len(shop.ran)))


def test_eight_builds_of_one_graph_in_one_new_store_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results: Queue[tuple[bytes, int]] = context.Queue()
    arguments = [(tmp_path / str(n), tmp_path / "home", results) for n in range(8)]
    processes = [context.Process(target=build, args=each) for each in arguments]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)

    assert [0] * 8 == [process.exitcode for process in processes]
    assert 1 == len({text for text, _ in found})
    assert 41 == sum(ran for _, ran in found)
    assert [0] == [ran for _, ran in [found_again(tmp_path)]]


def test_a_claim_is_waited_for(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with Claims(tmp_path).hold("a"):
            order.append("second")

    with Claims(tmp_path).hold("a"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.25)
        order.append("first")
    thread.join(30)

    assert ["first", "second"] == order
    assert [] == list(tmp_path.iterdir())


def test_who_waits_for_a_claim_can_be_stopped(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claims.stop()
    with Claims(tmp_path).hold("a"), pytest.raises(Interrupted), claims.hold("a"):
        pass


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()

    def die() -> None:
        with Claims(tmp_path).hold("a"):
            ready.set()
            time.sleep(60)

    process = context.Process(target=die)
    process.start()
    assert ready.wait(30)
    process.kill()
    process.join(30)
    with Claims(tmp_path).hold("a"):
        pass


def found_again(tmp_path: Path) -> tuple[bytes, int]:
    """Build once more, in another folder of the same store."""
    results: Queue[tuple[bytes, int]] = multiprocessing.get_context("fork").Queue()
    build(tmp_path / "again", tmp_path / "home", results)
    return results.get(timeout=60)
