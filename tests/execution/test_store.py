"""The store through its public face: what is put is read back, and never anything else."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from forge.core.digest import Digest, Hash, Pin
from forge.core.errors import HostError, MaterialError
from forge.execution.store import STAMP, LocalStore, MissingBlob
from tests.execution.damage import FAULTS, flip, unfinished
from tests.execution.workshop import sha256

HELLO = b"hello\n" * 100


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "home")


def test_what_is_put_is_read_back_by_its_sha256(store: LocalStore) -> None:
    digest = store.put(HELLO)

    assert Digest(sha256(HELLO), len(HELLO)) == digest
    assert HELLO == store.read(digest)
    assert store.contains(digest)
    assert HELLO == store.path(digest).read_bytes()
    assert unfinished(store) == []


@pytest.mark.parametrize("pin", [Digest.of(HELLO), Hash(sha256(HELLO))], ids=["digest", "hash alone"])
def test_a_blob_is_found_by_what_is_known_of_it(store: LocalStore, pin: Pin) -> None:
    absent = store.find(pin)
    store.put(HELLO)

    assert absent is None
    assert store.find(pin) == Digest.of(HELLO)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_what_is_found_by_its_hash_alone_is_whole(store: LocalStore, fault: Callable[[Path], object]) -> None:
    fault(store.path(store.put(HELLO)))

    assert store.find(Hash(sha256(HELLO))) is None


def test_what_is_not_there_is_a_missing_blob_and_a_key_error(store: LocalStore) -> None:
    absent = Digest.of(b"absent")

    assert not store.contains(absent)
    with pytest.raises(KeyError):
        store.open(absent)
    with pytest.raises(MissingBlob):
        store.verify(absent)


def test_bytes_that_are_not_the_expected_ones_are_not_kept(store: LocalStore) -> None:
    with pytest.raises(MaterialError, match="Wrong content"), store.writer() as writer:
        writer.write(b"other")
        writer.commit(Digest.of(HELLO))

    assert not store.contains(Digest.of(HELLO))
    assert not store.contains(Digest.of(b"other"))
    assert unfinished(store) == []


def test_a_writer_that_is_left_without_commit_keeps_nothing(store: LocalStore) -> None:
    with pytest.raises(ZeroDivisionError), store.writer() as writer:
        writer.write(HELLO)
        _ = 1 // 0

    assert not store.contains(Digest.of(HELLO))
    assert unfinished(store) == []


def test_a_recipe_reads_as_its_parts(store: LocalStore) -> None:
    weights = store.put(b"w" * 70_000)
    whole = b"head" + b"w" * 70_000 + b"tail"

    store.put_recipe(Digest.of(whole), [b"head", weights, b"tail"])

    assert whole == store.read(Digest.of(whole))
    assert store.contains(Digest.of(whole))
    assert not store.path(Digest.of(whole)).exists()
    assert store.sound_path(Digest.of(whole)).read_bytes() == whole


def test_a_recipe_without_its_parts_is_not_there(store: LocalStore) -> None:
    part = store.put(b"part")
    store.put_recipe(Digest.of(b"a part"), [b"a ", part])
    store.path(part).unlink()

    assert not store.contains(Digest.of(b"a part"))
    assert bytes.fromhex(Digest.of(b"a part").hash) not in store.present()
    with pytest.raises(MissingBlob):
        store.verify(Digest.of(b"a part"))


@pytest.mark.parametrize("position", [0, 40, -5], ids=["checksum", "size", "literal"])
def test_a_changed_recipe_is_no_recipe(store: LocalStore, position: int) -> None:
    whole = Digest.of(b"literal bytes")
    store.put_recipe(whole, [b"literal bytes"])
    file = store.home / "recipes" / whole.hash
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)

    assert not store.contains(whole)
    with pytest.raises(MissingBlob):
        store.open(whole)


def test_a_recipe_that_makes_something_else_is_found_out_when_it_becomes_a_file(store: LocalStore) -> None:
    claimed = Digest.of(b"claimed")
    store.put_recipe(claimed, [b"differs"])

    with pytest.raises(MissingBlob):
        store.sound_path(claimed)
    assert not store.contains(claimed)


def test_files_are_read_only_and_an_executable_is_a_copy_of_its_own(store: LocalStore, tmp_path: Path) -> None:
    digest = store.put(HELLO)
    store.link(digest, tmp_path / "plain")
    store.link(digest, tmp_path / "program", executable=True)

    assert 0o444 == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert 0o555 == stat.S_IMODE((tmp_path / "program").stat().st_mode)
    assert (tmp_path / "plain").samefile(store.path(digest))
    assert not (tmp_path / "program").samefile(store.path(digest))
    assert HELLO == (tmp_path / "program").read_bytes()


def test_a_link_never_writes_into_what_is_there(store: LocalStore, tmp_path: Path) -> None:
    canary, other = store.put(b"canary"), store.put(b"other!")
    store.link(canary, tmp_path / "file")

    with pytest.raises(HostError):
        store.link(other, tmp_path / "file")
    assert b"canary" == store.path(canary).read_bytes()


def test_a_link_to_another_device_is_a_copy(store: LocalStore, tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("No second file system")
    digest = store.put(HELLO)
    target = shared / f"forge-test-{os.getpid()}"
    try:
        store.link(digest, target)

        assert HELLO == target.read_bytes()
        assert STAMP == target.stat().st_mtime
    finally:
        target.unlink(missing_ok=True)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_damaged_blob_is_never_read(store: LocalStore, fault: object) -> None:
    digest = store.put(HELLO)
    fault(store.path(digest))  # type: ignore[operator]

    with pytest.raises(MissingBlob) as error:
        store.open(digest)
    assert (fault is not Path.unlink) == error.value.corrupt
    assert not store.contains(digest)

    store.put(HELLO)
    assert HELLO == store.read(digest)


def test_a_damaged_blob_is_put_aside_for_whoever_wants_to_know(store: LocalStore) -> None:
    digest = store.put(HELLO)
    flip(store.path(digest))

    with pytest.raises(MissingBlob):
        store.verify(digest)
    assert [digest.hash] == os.listdir(store.home / "quarantine")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_damaged_executable_copy_is_made_again(store: LocalStore, fault: object) -> None:
    digest = store.put(HELLO)
    copy = store.sound_path(digest, executable=True)
    fault(copy)  # type: ignore[operator]

    assert HELLO == store.sound_path(digest, executable=True).read_bytes()


def test_a_blob_that_was_only_touched_is_still_good(store: LocalStore) -> None:
    digest = store.put(HELLO)
    os.utime(store.path(digest))

    assert HELLO == store.read(digest)
    assert STAMP == store.path(digest).stat().st_mtime


def test_a_recipe_stands_in_for_a_damaged_file(store: LocalStore) -> None:
    part = store.put(b"x" * 1000)
    whole = Digest.of(b"h" + b"x" * 1000)
    store.put_recipe(whole, [b"h", part])
    flip(store.sound_path(whole))

    assert b"h" + b"x" * 1000 == store.read(whole)


def test_stray_files_in_the_store_do_no_harm(store: LocalStore) -> None:
    store.put(b"x")
    (store.home / "cas" / "README").write_text("")
    (store.home / "cas" / "zz").mkdir()
    (store.home / "cas" / "zz" / ("z" * 64)).write_text("")
    (store.home / "recipes" / "short").write_text("")

    assert {bytes.fromhex(Digest.of(b"x").hash)} == store.present()
