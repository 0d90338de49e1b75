"""Many processes, one store."""

from __future__ import annotations

import multiprocessing
from multiprocessing.queues import Queue
from pathlib import Path

from forge.core.artifact import Artifact
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
    assert [0] == [ran for _, ran in [found_again(tmp_path)]]


def found_again(tmp_path: Path) -> tuple[bytes, int]:
    """Build once more, in another folder of the same store."""
    results: Queue[tuple[bytes, int]] = multiprocessing.get_context("fork").Queue()
    build(tmp_path / "again", tmp_path / "home", results)
    return results.get(timeout=60)
