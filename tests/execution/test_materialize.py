"""Trees on disk, and results in the action cache: what was changed there is made again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forge.core.digest import Digest
from forge.core.tool import TreeContent
from forge.core.tree import File, Tree
from forge.execution.action_cache import ActionCache
from forge.execution.materialize import evidence, materialize
from forge.execution.store import LocalStore, MissingBlob
from tests.execution.damage import flip


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "home")


def test_a_tree_is_made_once_out_of_links(store: LocalStore) -> None:
    content, tree = two_files(store)
    folder = materialize(store, content)
    made = folder.stat().st_ino

    assert made == materialize(store, content).stat().st_ino
    assert (folder / "a/one").samefile(store.path(Digest.of(b"one")))
    assert os.access(folder / "two", os.X_OK)
    assert tree.root.hash == folder.name


@pytest.mark.parametrize("change", ["added", "removed", "edited", "folder gone"])
def test_a_tree_that_was_changed_on_disk_is_made_again(store: LocalStore, change: str) -> None:
    content, _ = two_files(store)
    folder = materialize(store, content)
    if change == "added":
        (folder / "a/extra").write_text("x")
    elif change == "removed":
        (folder / "two").unlink()
    elif change == "edited":
        (folder / "a/one").unlink()
        (folder / "a/one").write_text("ONE")
    else:
        (folder / "a/one").unlink()
        (folder / "a").rmdir()

    again = materialize(LocalStore(store.home), content)

    assert folder == again
    assert ["a", "a/one", "two"] == sorted(path.relative_to(again).as_posix() for path in again.rglob("*"))
    assert "one" == (again / "a/one").read_text()


@pytest.mark.parametrize("name", ["a/one", "two"])
def test_a_file_of_a_tree_that_was_changed_in_place_is_found(store: LocalStore, name: str) -> None:
    content, _ = two_files(store)
    flip(materialize(store, content) / name)
    fresh = LocalStore(store.home)

    if name == "a/one":  # the blob itself
        with pytest.raises(MissingBlob):
            materialize(fresh, content)
        fresh.put(b"one")
    folder = materialize(fresh, content)

    assert (b"one", b"two") == ((folder / "a/one").read_bytes(), (folder / "two").read_bytes())


def two_files(store: LocalStore) -> tuple[TreeContent, Tree]:
    tree = Tree.of({"a/one": File(store.put(b"one")), "two": File(store.put(b"two"), True)})
    store.put(tree.encoded)
    return TreeContent(tree.digest, tree.root), tree


@pytest.mark.parametrize("damage", ["torn", "empty", "bit", "closure empty", "closure bit"])
def test_a_damaged_result_is_a_miss_and_a_damaged_note_is_made_again(store: LocalStore, damage: str) -> None:
    content, _ = two_files(store)
    key = Digest.of(b"key")
    cache = ActionCache(store)
    cache.put(key, {"tree/": content})
    assert {"tree/": content} == cache.get(key)
    folder, _, how = damage.rpartition(" ")
    file = next(path for path in (store.home / ("closures" if folder else "ac")).rglob("*") if path.is_file())
    data = file.read_bytes()
    file.write_bytes({"torn": data[:-3], "empty": b"", "bit": data[:-1] + bytes([data[-1] ^ 1])}[how])

    found = ActionCache(LocalStore(store.home)).get(key)

    assert found == ({"tree/": content} if folder else None)


@pytest.mark.parametrize("which", [b"one", b"two"])
def test_a_result_whose_tree_lacks_a_file_is_a_miss(store: LocalStore, which: bytes) -> None:
    content, _ = two_files(store)
    key = Digest.of(b"key")
    ActionCache(store).put(key, {"tree/": content})
    store.path(Digest.of(which)).unlink()

    assert ActionCache(store).get(key) is None


def test_the_evidence_for_a_tree_is_true_until_something_changes(store: LocalStore) -> None:
    content, _ = two_files(store)
    folder = materialize(store, content)
    files, folders = evidence(store, content)

    assert {str(folder / "a/one"): 3, str(folder / "two"): 3} == files
    assert {str(folder), str(folder / "a")} == folders.keys()
    assert all(os.stat(path).st_mtime_ns == when for path, when in folders.items())
    (folder / "a/extra").write_text("")
    assert os.stat(folder / "a").st_mtime_ns != folders[str(folder / "a")]
