from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.core import wire
from forge.core.digest import EMPTY, Digest
from forge.core.tree import Directory, Entry, File, Folder, Symlink, Tree, TreeError, encode_digest, merge, under

A, B = File(Digest.of(b"a")), File(Digest.of(b"b"), True)
NOTHING = EMPTY.hash.encode().hex()
"""The 64 digits of the hash of nothing, as ASCII."""

NAMES = st.sampled_from(["a", "b", "c", "ä", "a-b", "Z"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
ENTRIES: st.SearchStrategy[Entry] = st.one_of(
    st.builds(File, st.binary(max_size=2).map(Digest.of), st.booleans()),
    st.builds(Symlink, st.text(max_size=4)),
    st.just(Folder()),
)


def well_formed(entries: dict[str, Entry]) -> bool:
    try:
        Tree.of(entries)
    except TreeError:
        return False
    return True


TREES = st.dictionaries(PATHS, ENTRIES, max_size=8).filter(well_formed)


def test_encodes_a_folder_as_the_specification_says() -> None:
    """Derived by hand: Directory{files=1, directories=2, symlinks=3}, FileNode{name=1, digest=2, is_executable=4}."""
    directory = Directory(
        files=(("b", File(EMPTY, True)), ("a", File(EMPTY))),
        directories=(("d", EMPTY),),
        symlinks=(("l", Symlink("a")),),
    )
    digest = f"0a40{NOTHING}"
    expected = f"0a47 0a0161 1242{digest}0a49 0a0162 1242{digest} 20011247 0a0164 1242{digest}1a06 0a016c 120161"

    assert directory.encode() == bytes.fromhex(expected)


def test_the_empty_folder_is_no_bytes() -> None:
    assert Tree.of({}).root == EMPTY


@given(TREES)
def test_reads_back_what_it_writes(entries: dict[str, Entry]) -> None:
    tree = Tree.of(entries)

    assert Tree.decode(tree.encoded) == tree


@given(TREES)
def test_the_order_of_entries_does_not_matter(entries: dict[str, Entry]) -> None:
    backwards = Tree.of(dict(reversed(entries.items())))

    assert (backwards.encoded, list(backwards.entries)) == (Tree.of(entries).encoded, list(Tree.of(entries).entries))


@given(TREES, TREES)
def test_trees_have_one_root_when_they_are_equal(one: dict[str, Entry], other: dict[str, Entry]) -> None:
    assert (Tree.of(one).root == Tree.of(other).root) == (Tree.of(one).entries == Tree.of(other).entries)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_tree_or_a_value_error(encoded: bytes) -> None:
    try:
        Tree.decode(encoded)
    except ValueError:
        return


@given(TREES, st.integers(0, 400), st.integers(1, 255))
def test_a_changed_byte_is_a_tree_or_a_value_error(entries: dict[str, Entry], position: int, change: int) -> None:
    encoded = bytearray(Tree.of({**entries, "x/y": A} if well_formed({**entries, "x/y": A}) else {"x/y": A}).encoded)
    encoded[position % len(encoded)] ^= change
    try:
        Tree.decode(bytes(encoded))
    except ValueError:
        return


def test_a_folder_with_something_in_it_need_not_be_named() -> None:
    assert Tree.of({"a": Folder(), "a/b": A}) == Tree.of({"a/b": A})


def test_knows_its_files_and_folders() -> None:
    tree = Tree.of({"b/c/d": A, "e": Folder(), "a": B, "l": Symlink("a")})

    assert (list(tree.files()), tree.folders()) == ([("a", B), ("b/c/d", A)], ["b", "b/c", "e"])


def test_its_digest_is_that_of_its_message() -> None:
    tree = Tree.of({"a": A})

    assert tree.digest == Digest.of(tree.encoded)


@pytest.mark.parametrize(
    "entries",
    [
        {"": A}, {".": A}, {"..": A}, {"a/../b": A}, {"/a": A}, {"a/": A}, {"a//b": A}, {"a\0": A},
        {"a": A, "a/b": B}, {"a/b": B, "a": A}, {"a": Symlink("b"), "a/b": B}, {"a/": Folder(), "a": A},
        {"a/b/c": A, "a/b": B}, {"/".join(["a"] * 200): A},
    ],
)  # fmt: skip
def test_refuses_entries_that_cannot_be(entries: dict[str, Entry]) -> None:
    with pytest.raises(TreeError):
        Tree.of(entries)


def test_a_folder_cannot_be_a_file_too() -> None:
    with pytest.raises(TreeError, match="`a/b` lies below something"):
        Tree.of({"a": A, "a/b": Folder()})


def named(name: bytes, number: int = 1) -> bytes:
    return wire.message(number, wire.data(1, name) + wire.message(2, encode_digest(EMPTY)))


@pytest.mark.parametrize(
    "root",
    [
        named(b"../a"), named(b""), named(b"."), named(b"a\0"), named(b"\xff"), named(b"a") + named(b"a"),
        named(b"a") + named(b"a", 2), named(b"missing", 2), wire.message(1, wire.string(1, "a")), wire.integer(1, 3),
        wire.message(1, wire.string(1, "a") + wire.message(2, wire.string(1, EMPTY.hash) + wire.integer(2, -1))),
    ],
)  # fmt: skip
def test_refuses_a_message_that_is_no_tree(root: bytes) -> None:
    with pytest.raises(ValueError):
        Tree.decode(wire.message(1, root))


def test_skips_fields_that_it_does_not_know() -> None:
    root = Directory((("a", A),)).encode() + wire.message(5, b"")

    assert dict(Tree.decode(wire.message(1, root) + wire.message(9, b"")).entries) == {"a": A}


def tower(height: int, *, width: int) -> bytes:
    """Folders that hold the next one several times, under several names."""
    child = b""
    tree = b""
    for _ in range(height):
        digest = Digest.of(child)
        tree += wire.message(2, child)
        child = Directory(directories=tuple((f"{number}", digest) for number in range(width))).encode()
    return wire.message(1, child) + tree


def test_refuses_a_tree_that_is_too_deep() -> None:
    with pytest.raises(TreeError, match="too deeply"):
        Tree.decode(tower(200, width=1))


def test_refuses_a_tree_that_would_fill_the_memory() -> None:
    with pytest.raises(TreeError, match="too many folders"):
        Tree.decode(tower(40, width=40))


def test_reads_a_tree_that_is_deep_enough() -> None:
    assert list(Tree.decode(tower(100, width=1)).entries) == ["/".join("0" * 100)]


def test_merging_what_is_equal_changes_nothing() -> None:
    entries: dict[str, Entry] = {"a": A, "b": Folder(), "c": Symlink("a")}

    assert merge([entries, {}, entries]) == entries


def test_merging_refuses_two_things_under_one_name() -> None:
    with pytest.raises(TreeError, match="`a`"):
        merge([{"a": A}, {"a": B}])


@pytest.mark.parametrize("kind", [Folder(), Symlink("x")])
def test_merging_refuses_two_kinds_under_one_name(kind: Entry) -> None:
    with pytest.raises(TreeError, match="`a`"):
        merge([{"a": kind}, {"a": A}])


def test_merging_may_let_the_last_one_win() -> None:
    assert merge([{"a": A, "b": A}, {"a": B}], replace=True) == {"a": B, "b": A}


def test_moves_entries_below_a_folder() -> None:
    assert (under("x/y", {"a": A}), under("", {"a": A})) == ({"x/y/a": A}, {"a": A})
