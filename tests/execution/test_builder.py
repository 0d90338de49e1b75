"""Builds over a fake executor: what runs, what does not, and what a damaged store costs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forge.core.action import Action
from forge.core.artifact import Derived
from forge.core.digest import Digest
from forge.core.event import Warned
from forge.core.tool import FileContent
from tests.execution.damage import FAULTS, flip
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
    # What the folder had lost was the source's content, which came back with the source.
    assert ["one", "top", "two"] == sorted(run.ran)


def test_a_damaged_result_of_the_action_cache_runs_its_action(shop: Workshop) -> None:
    top = chain(shop)
    shop.build(top)
    for path in (shop.home / "ac").glob("*/*"):
        flip(path)
    shop.build(top)

    assert 4 == len(shop.ran)


@pytest.mark.parametrize("sized", [True, False])
def test_a_fixed_output_is_known_by_its_digest(shop: Workshop, sized: bool) -> None:
    wheel = shop.action("wheel", fixed=b"wheel bytes", sized=sized)
    shop.build(wheel)
    assert ["wheel"] == shop.ran

    shop.actions.clear()
    other = shop.action("the same from elsewhere", fixed=b"wheel bytes", sized=sized)
    run = shop.build(shop.action("user", other))

    assert ["user"] == shop.ran
    assert FileContent(Digest.of(b"wheel bytes")) == run.contents["the same from elsewhere"]["out"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("sized", [True, False])
def test_a_damaged_fixed_output_is_fetched_again(shop: Workshop, fault: object, sized: bool) -> None:
    user = shop.action("user", shop.action("wheel", fixed=b"wheel bytes", sized=sized))
    shop.build(user)
    fault(shop.store.path(Digest.of(b"wheel bytes")))  # type: ignore[operator]
    user = shop.action("user", Derived("wheel", "out"), argv=["join", "changed"])
    run = shop.build(user)

    assert {"wheel", "user"} == set(run.ran)
    assert b"join changedwheel bytes" == shop.text(run, user)
