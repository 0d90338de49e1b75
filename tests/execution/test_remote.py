"""Builds with a remote cache: what another machine made is not made again, and no byte of it is just believed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.core import wire
from forge.core.artifact import Artifact, Derived
from forge.core.digest import Digest
from forge.core.errors import ActionFailed
from forge.core.event import ActionFinished, Warned
from forge.core.tree import File, Tree, encode_digest
from forge.execution.breaker import PATIENCE
from tests.execution.workshop import Workshop
from tests.fakes.remote import MemoryRemote
from tests.property.test_incremental import FAST, World, apply, build, clean, edits, worlds


@pytest.fixture(params=[300, 0], ids=["batches", "one by one"])
def remote(request: pytest.FixtureRequest) -> MemoryRemote:
    return MemoryRemote(batch=request.param)


def machine(folder: Path, remote: MemoryRemote | None) -> Workshop:
    shop = Workshop(folder)
    shop.cache = remote
    return shop


def declare(shop: Workshop) -> list[Artifact]:
    """A file that is fetched, a folder made of it and of a source, a file made of that folder."""
    source = shop.write("source", "some text")
    fetched = shop.action("fetch", fixed=b"from afar", outputs=("blob",))
    folder = shop.action("folder", source, fetched, outputs=("folder/",))
    middle = shop.action("middle", folder, argv=("count",))
    return [shop.action("last", middle, folder)]


def filled(tmp_path: Path, remote: MemoryRemote) -> tuple[Workshop, list[Artifact], bytes]:
    """Build on one machine; a second one with the same sources, what is built there, and what it must be."""
    first = machine(tmp_path / "first", remote)
    run = first.build(*declare(first))
    assert len(first.ran) == 4
    second = machine(tmp_path / "second", remote)
    wanted = declare(second)
    return second, wanted, first.text(run, wanted[0])


def warnings(shop: Workshop) -> list[str]:
    return [event.text for event in shop.events if isinstance(event, Warned)]


def test_another_machine_runs_nothing(tmp_path: Path, remote: MemoryRemote) -> None:
    shop, wanted, expected = filled(tmp_path, remote)
    run = shop.build(*wanted)

    assert shop.ran == []
    assert run.remote == {"fetch", "folder", "middle", "last"}
    assert shop.text(run, wanted[0]) == expected
    assert remote.is_closed


def test_only_what_is_asked_for_comes(tmp_path: Path, remote: MemoryRemote) -> None:
    shop, wanted, _ = filled(tmp_path, remote)
    shop.build(*wanted)

    files = [path for path in (shop.home / "cas").glob("*/*") if path.is_file()]
    assert len(files) == 2  # the Tree message, and the file that was asked for


def test_what_then_has_to_run_gets_its_inputs_from_there(tmp_path: Path, remote: MemoryRemote) -> None:
    shop, wanted, _ = filled(tmp_path, remote)
    wanted.append(shop.action("new", Derived("folder", "folder/"), Derived("fetch", "blob")))
    run = shop.build(*wanted)

    assert shop.ran == ["new"]
    assert b"from afar" in shop.text(run, wanted[1])


def test_events_say_what_came_from_there(tmp_path: Path, remote: MemoryRemote) -> None:
    shop, wanted, _ = filled(tmp_path, remote)
    shop.build(*wanted)
    finished = [event for event in shop.events if isinstance(event, ActionFinished)]

    assert {(event.outcome, event.remote) for event in finished} == {("cached", True)}


def test_a_second_build_has_what_came_and_asks_for_the_rest(tmp_path: Path, remote: MemoryRemote) -> None:
    shop, wanted, expected = filled(tmp_path, remote)
    shop.build(*wanted)
    run = shop.build(*wanted)

    assert shop.ran == []
    assert shop.text(run, wanted[0]) == expected


def test_without_the_cache_what_did_not_come_is_made(tmp_path: Path, remote: MemoryRemote) -> None:
    shop, wanted, expected = filled(tmp_path, remote)
    shop.build(*wanted)
    shop.cache = None
    run = shop.build(*wanted)

    assert "last" not in shop.ran or shop.ran
    assert shop.text(run, wanted[0]) == expected


def test_who_may_only_read_gives_nothing(tmp_path: Path, remote: MemoryRemote) -> None:
    shop = machine(tmp_path, remote)
    shop.upload = False
    shop.build(*declare(shop))

    assert len(shop.ran) == 4
    assert not remote.blobs and not remote.results


def test_a_cache_that_takes_nothing_is_told_once_and_no_failure(tmp_path: Path, remote: MemoryRemote) -> None:
    remote.read_only = True
    shop = machine(tmp_path, remote)
    shop.build(*declare(shop))

    assert [text for text in warnings(shop) if "takes no results" in text] == warnings(shop)
    assert len(warnings(shop)) == 1


def test_what_is_cached_here_goes_up_only_when_asked_for(tmp_path: Path, remote: MemoryRemote) -> None:
    shop = machine(tmp_path / "first", None)
    shop.build(*declare(shop))
    shop.cache = remote
    shop.build(*declare(shop))
    assert not remote.results
    shop.upload_cached = True
    shop.build(*declare(shop))
    assert shop.ran == []
    other = machine(tmp_path / "second", remote)
    other.build(*declare(other))

    assert other.ran == []


def test_results_are_those_of_the_api(tmp_path: Path, remote: MemoryRemote) -> None:
    filled(tmp_path, remote)
    paths = [
        wire.as_text(dict(wire.fields(wire.as_bytes(value)))[1])
        for message in remote.results.values()
        for number, value in wire.fields(message)
        if number in (2, 3)
    ]

    assert sorted(paths) == ["out/folder", "out/out", "out/out"]
    assert set(remote.results) < set(remote.blobs)  # keys are digests of Action messages, which are there too


def result_of(remote: MemoryRemote, word: str) -> str:
    """Find the key of the result with an output of that name."""
    return next(key for key, message in remote.results.items() if f"out/{word}".encode() in message)


def forget_all(remote: MemoryRemote) -> None:
    remote.blobs.clear()


def forget_a_file(remote: MemoryRemote) -> None:
    del remote.blobs[Digest.of(b"some text").hash]


def change_blobs(remote: MemoryRemote) -> None:
    for name, data in remote.blobs.items():
        remote.blobs[name] = data[:-1] + b"?"


def shorten_blobs(remote: MemoryRemote) -> None:
    for name, data in remote.blobs.items():
        remote.blobs[name] = data[:-1]


def lengthen_blobs(remote: MemoryRemote) -> None:
    for name, data in remote.blobs.items():
        remote.blobs[name] = data + b"?" * 100


def tear_results(remote: MemoryRemote) -> None:
    for name, data in remote.results.items():
        remote.results[name] = data[: len(data) // 2]


def empty_results(remote: MemoryRemote) -> None:
    for name in remote.results:
        remote.results[name] = b""


def swap_results(remote: MemoryRemote) -> None:
    one, *others = remote.results.values()
    for name in remote.results:
        remote.results[name] = one if remote.results[name] != one else others[-1]


def lie_about_a_tree(remote: MemoryRemote) -> None:
    """Name another tree's root: keys are made of it, so that a believed lie would poison what needs the folder."""
    other = Tree.of({"other": File(Digest.of(b"from afar"))})
    key = result_of(remote, "folder")
    node = dict(wire.fields(wire.as_bytes(dict(wire.fields(remote.results[key]))[3])))
    text = wire.string(1, "out/folder") + wire.message(3, wire.as_bytes(node[3]))
    remote.results[key] = wire.message(3, text + wire.message(5, encode_digest(other.root)))


def name_a_file_for_a_folder(remote: MemoryRemote) -> None:
    file = wire.string(1, "out/folder") + wire.message(2, encode_digest(Digest.of(b"some text")))
    remote.results[result_of(remote, "folder")] = wire.message(2, file)


FAULTS: list[Callable[[MemoryRemote], None]] = [
    forget_all,
    forget_a_file,
    change_blobs,
    shorten_blobs,
    lengthen_blobs,
    tear_results,
    empty_results,
    swap_results,
    lie_about_a_tree,
    name_a_file_for_a_folder,
]


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_a_cache_that_lost_or_lies_costs_time_and_nothing_else(
    tmp_path: Path, remote: MemoryRemote, spoil: Callable[[MemoryRemote], None]
) -> None:
    shop, wanted, expected = filled(tmp_path, remote)
    wanted.append(shop.action("new", Derived("folder", "folder/")))
    spoil(remote)
    run = shop.build(*wanted, jobs=2)

    assert not run.failures
    assert shop.text(run, wanted[0]) == expected
    assert b"some text" in shop.text(run, wanted[1])


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_what_was_spoilt_is_given_anew(
    tmp_path: Path, remote: MemoryRemote, spoil: Callable[[MemoryRemote], None]
) -> None:
    shop, wanted, expected = filled(tmp_path, remote)
    spoil(remote)
    shop.build(*wanted)
    for name, data in list(remote.blobs.items()):
        if Digest.of(data).hash != name:
            del remote.blobs[name]
    third = machine(tmp_path / "third", remote)
    run = third.build(*declare(third))

    assert third.text(run, wanted[0]) == expected


def test_a_dead_cache_is_left_alone_after_some_calls_and_told_twice(tmp_path: Path, remote: MemoryRemote) -> None:
    remote.dead = True
    shop = machine(tmp_path, remote)
    files = [shop.action(f"a{number}", argv=("join", str(number))) for number in range(8 * PATIENCE)]
    shop.build(*files)

    assert len(shop.ran) == 8 * PATIENCE
    assert PATIENCE <= len(remote.calls) < PATIENCE + 16  # those that were on their way
    assert sorted(text.split(" memory:// ")[1][:14] for text in warnings(shop)) == ["failed 5 times", "failed, and th"]


@pytest.mark.parametrize("call", ["result", "missing", "read", "read_batch"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_cache_that_dies_in_the_middle_is_done_without(
    tmp_path: Path, remote: MemoryRemote, call: str, count: int
) -> None:
    shop, wanted, expected = filled(tmp_path, remote)
    seen: list[str] = []

    def die(name: str) -> None:
        seen.append(name)
        remote.dead = remote.dead or seen.count(call) == count

    remote.before = die
    run = shop.build(*wanted)

    assert shop.text(run, wanted[0]) == expected


def test_a_result_is_given_after_its_blobs_and_not_without_them(tmp_path: Path, remote: MemoryRemote) -> None:
    shop = machine(tmp_path, remote)

    def refuse(call: str) -> None:
        remote.read_only = call == "write"

    remote.before = refuse
    shop.build(*declare(shop))

    assert not remote.results


def test_a_failed_build_gives_what_ran(tmp_path: Path, remote: MemoryRemote) -> None:
    shop = machine(tmp_path / "first", remote)
    good = shop.action("good")
    bad = shop.action("bad", good, argv=("fail",))
    run = shop.build(bad)
    assert isinstance(run.failures["bad"], ActionFailed)
    other = machine(tmp_path / "second", remote)
    other.build(other.action("good"))

    assert other.ran == []


def test_a_damaged_blob_of_the_store_comes_from_there(tmp_path: Path, remote: MemoryRemote) -> None:
    shop = machine(tmp_path, remote)
    wanted = declare(shop)
    run = shop.build(*wanted)
    expected = shop.text(run, wanted[0])
    shutil.rmtree(shop.home / "cas")
    run = shop.build(*wanted)

    assert shop.ran == []
    assert shop.text(run, wanted[0]) == expected


def test_a_file_of_which_only_the_hash_is_known_comes_from_there(tmp_path: Path, remote: MemoryRemote) -> None:
    for name in ("first", "second"):
        shop = machine(tmp_path / name, remote)
        run = shop.build(wanted := shop.action("fetch", fixed=b"from afar", sized=False))
        assert shop.text(run, wanted) == b"from afar"

    assert shop.ran == []


BELIEVED: list[Callable[[MemoryRemote], None] | None] = [
    None, forget_all, change_blobs, shorten_blobs, lengthen_blobs, tear_results, empty_results
]  # fmt: skip
"""Not among them: a whole result of another action. Who may write results is trusted, as with any such cache."""


@settings(FAST, max_examples=15)
@given(worlds(), st.lists(edits, min_size=1, max_size=4), st.sampled_from([0, 300]), st.sampled_from(BELIEVED))
def test_any_machine_with_the_cache_makes_what_a_clean_build_makes(
    world: World,
    steps: list[tuple[str, int, int]],
    batch: int,
    spoil: Callable[[MemoryRemote], None] | None,
) -> None:
    remote = MemoryRemote(batch=batch)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        shops = [machine(Path(one), remote), machine(Path(two), remote)]
        build(world, shops[0])
        for number, step in enumerate(steps):
            apply(world, shops[0], step)
            if spoil is not None:
                spoil(remote)
            outputs = build(world, shops[(number + 1) % 2])
            assert clean(world) == outputs
