"""Flattening against an oracle that knows nothing but paths."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.tree import Entry, File, Folder, Symlink, Tree, merge
from forge.oci.check import ImageError
from forge.oci.flatten import flatten
from forge.oci.summary import summarize
from tests.fakes.store import MemoryStore
from tests.oci.handmade import Handmade, folder, link, member, tar
from tests.oci.sample import base, make_image, make_layer, sound
from tests.oci.strategy import CONTENT, CONTENTS, trees

Layer = tuple[dict[str, Entry], list[str], list[str]]
"""Entries, whiteouts, opaque folders."""


def flat(*tars: Sequence[tuple[tarfile.TarInfo, bytes]]) -> dict[str, Entry]:
    made = Handmade(tars=[tar(one) for one in tars])
    return dict(flatten(made.build(), made.store).entries)


def text(data: str, *, executable: bool = False) -> File:
    return File(Digest.of(data.encode()), executable)


@settings(max_examples=30, deadline=None)
@given(st.lists(trees(), min_size=1, max_size=3), st.sampled_from(["gzip", "none"]))
def test_an_image_of_layers_is_the_trees_over_one_another(layers: list[dict[str, Entry]], compression: str) -> None:
    store = MemoryStore()
    for content in CONTENTS:
        store.put(content)
    layout = make_image(store, [make_layer(store, one, compression=compression) for one in layers])

    assert flatten(layout, store).root == Tree.of(oracle([(one, [], []) for one in layers])).root


def test_layers_that_agree_are_merged() -> None:
    store = MemoryStore()
    layers: list[dict[str, Entry]] = [base(store), {"opt/a": Folder(), "bin": Symlink("usr/bin")}]
    layout = make_image(store, [make_layer(store, one) for one in layers])

    assert flatten(layout, store).root == Tree.of(merge(layers)).root


@st.composite
def changesets(draw: st.DrawFn) -> Layer:
    names = st.lists(st.sampled_from(["a", "b", "c", "a.b"]), min_size=1, max_size=3).map("/".join)
    return draw(trees()), draw(st.lists(names, max_size=3)), draw(st.lists(names, max_size=2))


@settings(max_examples=80, deadline=None)
@given(st.lists(changesets(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_a04_whiteouts_hide_lower_layers_only(layers: list[Layer], random: Random) -> None:
    tars = []
    for entries, hidden, opaque in layers:
        members = [as_member(path, entry) for path, entry in entries.items()]
        members += [member("/".join([*path.split("/")[:-1], f".wh.{path.split('/')[-1]}"])) for path in hidden]
        members += [member(f"{path}/.wh..wh..opq") for path in opaque]
        random.shuffle(members)
        tars.append(tar(members))
    made = Handmade(tars=tars)

    assert flatten(made.build(), made.store).root == Tree.of(oracle(layers)).root


def as_member(path: str, entry: Entry) -> tuple[tarfile.TarInfo, bytes]:
    if isinstance(entry, Symlink):
        return link(path, entry.target)
    if isinstance(entry, Folder):
        return folder(path)
    return member(path, CONTENT[entry.digest], mode=0o755 if entry.executable else 0o644)


def oracle(layers: list[Layer]) -> dict[str, Entry]:
    """Apply layers as sets of paths, folders written out."""
    state: dict[str, Entry] = {}
    for entries, hidden, opaque in layers:
        for path in opaque:
            state = {p: e for p, e in state.items() if not p.startswith(f"{path}/")}
        for path in hidden:
            state = {p: e for p, e in state.items() if p != path and not p.startswith(f"{path}/")}
        full = {**{path: Folder() for path in Tree.of(entries).folders()}, **entries}
        for path, entry in sorted(full.items()):
            if not (isinstance(entry, Folder) and isinstance(state.get(path), Folder)):
                state = {p: e for p, e in state.items() if not p.startswith(f"{path}/")}
            state[path] = entry
    return state


def test_a_file_replaces_a_folder_and_all_in_it() -> None:
    assert flat([folder("a"), member("a/b")], [member("a", b"x")]) == {"a": text("x")}


def test_a_folder_replaces_a_file() -> None:
    assert flat([member("a")], [folder("a"), member("a/b", b"x")]) == {"a/b": text("x")}


def test_a_folder_over_a_folder_keeps_what_is_in_it() -> None:
    assert flat([folder("a"), member("a/b", b"x")], [folder("a")]) == {"a/b": text("x")}


def test_a04_a_link_in_a_lower_layer_is_not_followed() -> None:
    lower = [link("lib", "usr/lib"), folder("usr"), folder("usr/lib")]

    assert flat(lower, [member("lib/x", b"x")]) == {"usr/lib": Folder(), "lib/x": text("x")}


def test_a04_a_whiteout_does_not_follow_links() -> None:
    lower = [link("lib", "usr"), folder("usr"), member("usr/x", b"x")]

    assert flat(lower, [member("lib/.wh.x")])["usr/x"] == text("x")


def test_a04_a_whiteout_of_a_parent_leaves_what_its_own_layer_adds() -> None:
    lower = [folder("a"), member("a/old")]

    assert flat(lower, [folder("a"), member("a/new", b"x"), member(".wh.a")]) == {"a/new": text("x")}


def test_a04_an_opaque_folder_keeps_nothing_of_lower_layers() -> None:
    lower = [folder("a"), member("a/old"), folder("a/b"), member("a/b/old")]

    assert flat(lower, [folder("a"), member("a/new", b"x"), member("a/.wh..wh..opq")]) == {"a/new": text("x")}


def test_a_whiteout_of_nothing_does_nothing() -> None:
    assert flat([member("a", b"x")], [member(".wh.b"), member("c/.wh.d")]) == {"a": text("x")}


def test_hard_links_are_the_file_that_they_lead_to() -> None:
    lower = [member("a", b"x", mode=0o755)]
    upper = [link("b", "a", tarfile.LNKTYPE), link("d", "c", tarfile.LNKTYPE), member("c", b"y")]

    assert flat(lower, upper) == {
        "a": text("x", executable=True),
        "b": text("x", executable=True),
        "c": text("y"),
        "d": text("y"),
    }


def test_large_files_are_kept_whole() -> None:
    data = bytes(range(256)) * 10_000
    made = Handmade(tars=[tar([member("f", data)])])
    found = flatten(made.build(), made.store).entries["f"]

    assert found == File(Digest.of(data))
    assert made.store.read(Digest.of(data)) == data


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("../a")], "leads out of the image"),
        ([member("/a")], "leads out of the image"),
        ([link("a", "../b", tarfile.LNKTYPE)], "leads out of the image"),
        ([link("a", "b", tarfile.LNKTYPE)], "leads to no file"),
        ([link("a", "/etc"), member("a/b")], "below something that is not a folder"),
        ([member("null", type=tarfile.CHRTYPE)], "neither file, folder nor link"),
        ([member("\udcff")], "cannot be a tree"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_a_tree_is_refused(members: list[tuple[tarfile.TarInfo, bytes]], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        flat(members)


def test_a_layer_that_is_cut_off_is_refused() -> None:
    made = Handmade(tars=[tar([member("f", b"x" * 5000)])[:2000]])

    with pytest.raises(ImageError, match="malformed"):
        flatten(made.build(), made.store)


def test_a_missing_layer_is_an_error() -> None:
    store = MemoryStore()
    layout = sound(store)
    del store.blobs[summarize(layout, store).layers[0].digest]

    with pytest.raises(MaterialError, match="lacks the layer"):
        flatten(layout, store)
