"""Failures, jobs, interrupts, and sources that change under a build."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from forge.core.action import Action
from forge.core.artifact import Derived
from forge.core.digest import Digest
from forge.core.errors import ActionFailed, LoadError, MaterialError, UserError
from forge.core.event import ActionFinished
from forge.execution.output import publish
from forge.execution.source import SourceCache
from tests.execution.workshop import Workshop


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def chain(shop: Workshop) -> Derived:
    """a and b are sources; a -> one -> two, b -> folder/, both -> top."""
    one = shop.action("one", shop.write("a", "A"))
    two = shop.action("two", one)
    folder = shop.action("folder", shop.write("b", "B"), outputs=("folder/",))
    return shop.action("top", two, folder)


def test_a_failure_stops_what_depends_on_it_and_is_never_cached(shop: Workshop) -> None:
    bad = shop.action("bad", argv=["fail"])
    top = shop.action("top", bad)
    for _ in range(2):
        run = shop.build(top)

        assert ["bad"] == shop.ran
        assert ["bad"] == list(run.failures)
        assert {"top"} == run.abandoned
    assert isinstance(run.failures["bad"], ActionFailed)
    assert "last words" in [event.log for event in shop.events if isinstance(event, ActionFinished)]


def test_after_a_failure_nothing_more_is_started(shop: Workshop) -> None:
    names = [shop.action("bad", argv=["fail"]), *[shop.action(f"good{n}", argv=["join", str(n)]) for n in range(5)]]
    run = shop.build(*names)

    assert ["bad"] == list(run.failures)
    assert len(shop.ran) < 3  # two threads: what one had begun when the other failed
    assert shop.actions.keys() == run.failures.keys() | run.abandoned | run.contents.keys()


def test_what_runs_when_another_fails_ends_and_is_kept(shop: Workshop) -> None:
    begun = threading.Event()

    def hook(action: Action) -> None:
        if action.description == "slow":
            begun.set()
            time.sleep(0.05)
        else:
            assert begun.wait(5)

    shop.hook = hook
    run = shop.build(shop.action("slow", argv=["join", "s"]), shop.action("bad", argv=["fail"]), jobs=2)
    assert {"slow"} == run.contents.keys()
    shop.hook = lambda action: None
    shop.build(Derived("slow", "out"))

    assert [] == shop.ran


def test_keep_going_builds_all_that_does_not_need_the_failure(shop: Workshop) -> None:
    bad = shop.action("bad", argv=["fail"])
    worse = shop.action("worse", argv=["fail", "too"])
    good = shop.action("good", argv=["join"])
    top = shop.action("top", bad, good)
    run = shop.build(top, worse, shop.action("other", good), keep_going=True)

    assert {"bad", "worse"} == run.failures.keys()
    assert {"good", "other"} == run.contents.keys()
    assert {"top"} == run.abandoned


@pytest.mark.parametrize("jobs", [1, 3])
def test_jobs_is_how_many_run_at_a_time(shop: Workshop, jobs: int) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def hook(action: Action) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    shop.hook = hook
    shop.build(*[shop.action(f"a{n}", argv=["join", str(n)]) for n in range(9)], jobs=jobs)

    assert jobs == most


def test_equal_actions_run_once(shop: Workshop) -> None:
    shop.hook = lambda action: time.sleep(0.02)
    run = shop.build(*[shop.action(f"a{n}", argv=["join", "same"]) for n in range(6)], jobs=6)

    assert 1 == len(shop.ran)
    assert 5 == run.cached


def test_an_interrupt_stops_the_executor_and_keeps_what_was_finished(shop: Workshop) -> None:
    def hook(action: Action) -> None:
        if action.description == "second":
            raise KeyboardInterrupt

    shop.hook = hook
    first = shop.action("first", argv=["join"])
    with pytest.raises(KeyboardInterrupt):
        shop.build(shop.action("second", first))
    shop.hook = lambda action: None
    shop.build(Derived("second", "out"))

    assert ["second"] == shop.ran


def test_a_source_that_changes_while_it_is_used_fails_and_caches_nothing(shop: Workshop) -> None:
    """Hashed, and edited before it is copied: a check that Bazel has from bazel#3360."""
    source, store = shop.write("a", "A"), shop.store
    sources = SourceCache({"workspace": shop.root}, shop.home / "note")
    content = sources.content(source)
    shop.write("a", "edited")
    with pytest.raises(MaterialError, match="changed while") as error:
        sources.ingest(source, content, store)

    assert not store.contains(Digest.of(b"A"))
    assert not store.contains(Digest.of(b"edited"))
    assert "nothing was cached" in str(error.value)


def test_a_source_that_goes_away_while_it_is_used_is_no_traceback(shop: Workshop) -> None:
    source = shop.write("a", "A")
    sources = SourceCache({"workspace": shop.root}, shop.home / "note")
    content = sources.content(source)
    (shop.root / "a").unlink()

    with pytest.raises(MaterialError, match="changed while"):
        sources.ingest(source, content, shop.store)


def test_a_missing_source_is_a_load_error(shop: Workshop) -> None:
    top = chain(shop)
    (shop.root / "a").unlink()
    run = shop.build(top)

    assert isinstance(run.failures["one"], LoadError)
    assert "`a`" in str(run.failures["one"])


def test_outputs_are_links_and_what_is_in_the_way_is_left_alone(shop: Workshop) -> None:
    top = chain(shop)
    content = shop.build(top).contents["top"]["out"]
    link, target = publish(shop.store, shop.root, "pkg/top", content)
    assert link.readlink() == target
    link.unlink()
    link.write_text("mine")

    with pytest.raises(UserError, match="in the way"):
        publish(shop.store, shop.root, "pkg/top", content)
    assert "mine" == link.read_text()


def test_an_output_below_an_earlier_output_is_not_written_into_the_store(shop: Workshop) -> None:
    top = chain(shop)
    run = shop.build(top)
    _, tree = publish(shop.store, shop.root, "pkg/server", run.contents["folder"]["folder/"])
    publish(shop.store, shop.root, "pkg/server/top", run.contents["top"]["out"])

    assert ["b"] == os.listdir(tree)
    assert (shop.root / "forge-out/pkg/server/top").is_symlink()
