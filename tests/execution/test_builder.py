"""Builds over a fake executor: what runs, what does not, and what a damaged store costs."""

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
from forge.core.event import ActionFinished, Warned
from forge.core.tool import FileContent
from forge.execution.output import publish
from forge.execution.source import SourceCache
from tests.execution.test_store import FAULTS, flip
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


def test_a_second_build_runs_nothing(shop: Workshop) -> None:
    top = chain(shop)
    first = shop.build(top)
    assert ["folder", "one", "two", "top"] == sorted(shop.ran, key=["folder", "one", "two", "top"].index)

    second = shop.build(top)

    assert [] == shop.ran
    assert first.contents == second.contents
    assert 4 == second.cached


def test_a_touched_source_runs_nothing(shop: Workshop) -> None:
    top = chain(shop)
    shop.build(top)
    os.utime(shop.root / "a")
    shop.build(top)

    assert [] == shop.ran


def test_an_edit_runs_exactly_what_depends_on_it(shop: Workshop) -> None:
    top = chain(shop)
    shop.build(top)
    shop.write("b", "C")
    run = shop.build(top)

    assert ["folder", "top"] == shop.ran == run.ran
    assert b"C" in shop.text(run, top)


def test_an_edit_that_changes_no_output_stops_there(shop: Workshop) -> None:
    count = shop.action("count", shop.write("a", "A"), argv=["count"])
    top = shop.action("top", count)
    shop.build(top)
    shop.write("a", "B")
    shop.build(top)

    assert ["count"] == shop.ran


def test_going_back_to_an_earlier_content_runs_nothing(shop: Workshop) -> None:
    top = chain(shop)
    first = shop.build(top)
    shop.write("a", "changed")
    shop.build(top)
    shop.write("a", "A")
    third = shop.build(top)

    assert [] == shop.ran
    assert first.contents == third.contents


def test_only_what_is_asked_for_is_built(shop: Workshop) -> None:
    chain(shop)
    shop.build(Derived("two", "out"))

    assert ["one", "two"] == shop.ran


def test_a_changed_description_runs_nothing(shop: Workshop) -> None:
    shop.build(shop.action("a", argv=["join", "x"]))
    action = shop.actions["a"]
    shop.actions["a"] = Action(action.argv, outputs=action.outputs, description="other words")
    shop.build(Derived("a", "out"))

    assert [] == shop.ran


BLOBS = ["source", "intermediate", "output", "tree", "file of the tree"]


def blob_of(shop: Workshop, which: str) -> Path:
    store = shop.store
    texts = {
        "source": b"A",
        "intermediate": b"joinA",
        "output": shop.text(shop.build(Derived("top", "out")), Derived("top", "out")),
        "file of the tree": b"B",
    }
    if which in texts:
        return store.path(Digest.of(texts[which]))
    content = shop.build(Derived("folder", "folder/")).contents["folder"]["folder/"]
    assert not isinstance(content, FileContent)
    return store.path(content.tree)


@pytest.mark.parametrize("edit", ["", "a", "b"], ids=["nothing edited", "a edited", "b edited"])
@pytest.mark.parametrize("which", BLOBS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_damaged_blob_is_made_again(shop: Workshop, fault: object, which: str, edit: str) -> None:
    top = chain(shop)
    before = shop.text(shop.build(top), top)
    fault(blob_of(shop, which))  # type: ignore[operator]
    if edit:
        shop.write(edit, "edited")
    expected = before.replace(b"A", b"edited") if edit == "a" else before
    expected = expected.replace(b"B", b"edited") if edit == "b" else expected

    run = shop.build(top)

    assert expected == shop.text(run, top)
    shop.build(top)
    assert [] == shop.ran


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_store_in_which_everything_is_damaged_costs_one_build(tmp_path: Path, fault: object) -> None:
    shop = Workshop(tmp_path)
    tops = [shop.action(f"t{n}", shop.write(f"s{n}", f"S{n}"), outputs=("f/",)) for n in range(40)]
    top = shop.action("top", *tops)
    before = shop.text(shop.build(top), top)
    for path in (shop.home / "cas").glob("*/*"):
        fault(path)  # type: ignore[operator]

    run = shop.build(top)

    assert before == shop.text(run, top)
    assert set(shop.actions) == set(run.ran)


def test_damage_is_told_and_what_ran_before_it_showed_counts(shop: Workshop) -> None:
    top = chain(shop)
    shop.build(top)
    flip(shop.store.path(Digest.of(b"B")))
    shop.write("a", "edited")
    run = shop.build(top)

    assert any(isinstance(event, Warned) and "was damaged" in event.text for event in shop.events)
    assert ["folder", "one", "top", "two"] == sorted(run.ran)


def test_a_damaged_result_of_the_action_cache_runs_its_action(shop: Workshop) -> None:
    top = chain(shop)
    shop.build(top)
    for path in (shop.home / "ac").glob("*/*"):
        flip(path)
    shop.build(top)

    assert 4 == len(shop.ran)


def test_a_fixed_output_is_known_by_its_digest(shop: Workshop) -> None:
    wheel = shop.action("wheel", fixed=b"wheel bytes")
    shop.build(wheel)
    assert ["wheel"] == shop.ran

    shop.actions.clear()
    other = shop.action("the same from elsewhere", fixed=b"wheel bytes")
    run = shop.build(shop.action("user", other))

    assert ["user"] == shop.ran
    assert FileContent(Digest.of(b"wheel bytes")) == run.contents["the same from elsewhere"]["out"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_damaged_fixed_output_is_fetched_again(shop: Workshop, fault: object) -> None:
    user = shop.action("user", shop.action("wheel", fixed=b"wheel bytes"))
    shop.build(user)
    fault(shop.store.path(Digest.of(b"wheel bytes")))  # type: ignore[operator]
    user = shop.action("user", Derived("wheel", "out"), argv=["join", "changed"])
    run = shop.build(user)

    assert {"wheel", "user"} == set(run.ran)
    assert b"join changedwheel bytes" == shop.text(run, user)


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
    assert len(shop.ran) < 4
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
