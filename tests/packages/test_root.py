"""Trees become one root file system."""

from __future__ import annotations

from typing import cast

import pytest

from forge.core.digest import Digest
from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, Json, ToolRequest, TreeContent
from forge.core.tree import Entries, Entry, File, Folder, Symlink, Tree
from forge.packages.root import ROOT_VERSION, root
from tests.fakes.store import MemoryStore


def file(text: str, *, executable: bool = False) -> File:
    return File(Digest.of(text.encode()), executable)


def run(store: MemoryStore, *layers: Entries, **params: Json) -> Tree:
    inputs: dict[str, Content] = {}
    for number, layer in enumerate(layers):
        tree = Tree.of(layer)
        inputs[f"layer{number}"] = TreeContent(store.put(tree.encoded), tree.root)
    out = root(ToolRequest(params, inputs, store))["tree"]
    assert isinstance(out, TreeContent)
    tree = Tree.decode(store.read(out.tree))
    assert tree.root == out.root
    return tree


def merged(*layers: Entries, **params: Json) -> dict[str, Entry]:
    return dict(run(MemoryStore(), *layers, **params).entries)


def refusal(*layers: Entries, **params: Json) -> str:
    with pytest.raises(ActionFailed) as caught:
        merged(*layers, **params)
    return str(caught.value)


def synthesized(entries: Entries, **params: Json) -> dict[str, Entry]:
    return merged(entries, synthesize=True, **params)


def test_trees_are_laid_over_one_another() -> None:
    actual = merged({"a/x": file("x"), "s": Symlink("a")}, {"a/y": file("y"), "b": Folder()}, {"a/x": file("x")})

    assert actual == {"a/x": file("x"), "a/y": file("y"), "b": Folder(), "s": Symlink("a")}


def test_the_order_of_trees_that_agree_does_not_matter() -> None:
    one: Entries = {"a/x": file("x")}
    other: Entries = {"a/y": Symlink("x")}

    assert merged(one, other) == merged(other, one)


@pytest.mark.parametrize("other", [file("y"), file("x", executable=True), Symlink("y")], ids=["bytes", "mode", "link"])
def test_two_things_under_one_name_are_refused(other: Entry) -> None:
    expected = "base: `a/x` comes from `layer0` and from `layer2`, and differs"

    assert refusal({"a/x": file("x")}, {"b": file("b")}, {"a/x": other}, name="base") == expected


def test_the_later_of_two_things_wins_when_asked() -> None:
    assert merged({"a": file("x")}, {"a": file("y")}, conflicts="replace") == {"a": file("y")}


@pytest.mark.parametrize("conflicts", ["refuse", "replace"])
@pytest.mark.parametrize("above", [file("x"), Symlink("/etc")], ids=["file", "link"])
def test_nothing_is_put_below_what_is_no_folder(above: Entry, conflicts: str) -> None:
    layers: tuple[Entries, Entries] = ({"a": above}, {"a/b/c": file("c")})

    assert refusal(*layers, conflicts=conflicts) == (
        "`a/b/c` from `layer1` lies below `a`, which is no folder in `layer0`"
    )
    assert refusal(*reversed(layers), conflicts=conflicts) == (
        "`a/b/c` from `layer0` lies below `a`, which is no folder in `layer1`"
    )


def test_a_link_may_stand_where_another_has_an_empty_folder() -> None:
    assert merged({"a": Folder()}, {"a": Symlink("b")}) == merged({"a": Symlink("b")}, {"a": Folder()})


def test_mount_points_are_made() -> None:
    assert merged({"a": file("")}, mount_points=["/build", "mnt/in"]) == {
        "a": file(""),
        "mnt/in": Folder(),
        "build": Folder(),
    }


@pytest.mark.parametrize("point", ["/", "", "a/../b", 3])
def test_a_mount_point_that_is_none_is_refused(point: Json) -> None:
    assert refusal({}, mount_points=[point])


def test_a_mount_point_on_a_file_is_refused() -> None:
    assert "`a/b` from `mount points` lies below `a`" in refusal({"a": file("")}, mount_points=["a/b"])


def test_an_unknown_way_with_conflicts_is_refused() -> None:
    assert refusal(conflicts="ignore") == "Unknown `conflicts`: `ignore`, expected one of [refuse, replace]"


@pytest.mark.parametrize("content", [FileContent(Digest.of(b"x")), TreeContent(Digest.of(b"x"), Digest.of(b"x"))])
def test_an_input_that_is_no_tree_is_refused(content: Content) -> None:
    store = MemoryStore()
    store.put(b"x")

    with pytest.raises(ActionFailed, match="`odd` is"):
        root(ToolRequest({}, {"odd": content}, store))


def test_the_merged_usr_is_linked() -> None:
    actual = synthesized({"usr/lib64/ld.so": file("")})

    links = {path: entry.target for path, entry in actual.items() if isinstance(entry, Symlink)}
    assert links == {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}


def test_links_that_a_package_brings_stay() -> None:
    assert synthesized({"bin": Symlink("/usr/bin")})["bin"] == Symlink("/usr/bin")


def test_a_root_that_is_not_merged_is_refused() -> None:
    assert "lies below `bin`" in refusal({"bin/sh": file("")}, synthesize=True)


@pytest.mark.parametrize(
    ("programs", "link", "target"),
    [
        (["dash", "busybox"], "sh", "dash"),
        (["busybox"], "sh", "busybox"),
        (["mawk"], "awk", "mawk"),
        (["mawk", "gawk"], "awk", "gawk"),
        (["python3.9", "python3.11", "python3.11-config"], "python3", "python3.11"),
        (["gcc-9", "gcc-12", "gcc-ar-12"], "gcc", "gcc-12"),
        (["gcc-12"], "cc", "gcc-12"),
        (["gcc-12", "gcc"], "cc", "gcc"),
        (["g++-12"], "c++", "g++-12"),
        (["which.debianutils"], "which", "which.debianutils"),
    ],
)
def test_alternatives_are_linked(programs: list[str], link: str, target: str) -> None:
    actual = synthesized({f"usr/bin/{name}": file(name) for name in programs})

    assert actual[f"usr/bin/{link}"] == Symlink(target)


@pytest.mark.parametrize("name", ["sh", "awk", "cc", "python3", "ls"])
def test_what_is_not_there_is_not_linked(name: str) -> None:
    assert f"usr/bin/{name}" not in synthesized({"usr/bin/tool": file("")})


def test_busybox_is_linked_only_when_asked_and_only_to_free_names() -> None:
    entries: dict[str, Entry] = {"usr/bin/busybox": file("bb"), "usr/bin/sed": file("gnu"), "usr/bin/mawk": file("m")}

    actual = synthesized(entries, busybox_applets=True)

    assert actual["usr/bin/ls"] == actual["usr/bin/["] == Symlink("busybox")
    assert actual["usr/bin/sed"] == file("gnu")
    assert actual["usr/bin/awk"] == Symlink("mawk")
    assert "usr/bin/ls" not in synthesized(entries)


def test_accounts_and_folders_are_made() -> None:
    store = MemoryStore()

    tree = run(store, {"etc/group": file("own")}, synthesize=True)

    passwd = store.read(cast(File, tree.entries["etc/passwd"]).digest).decode()
    assert "nonroot:x:65532:65532:nonroot:/tmp:" in passwd
    assert tree.entries["etc/group"] == file("own")
    folders = {path for path, entry in tree.entries.items() if isinstance(entry, Folder)}
    assert folders == {"dev", "proc", "run", "sys", "tmp", "usr/bin", "usr/lib", "usr/sbin", "var/tmp"}


def test_certificates_are_joined_where_openssl_looks() -> None:
    store = MemoryStore()
    parts = {
        "usr/share/ca-certificates/m/B.crt": "B\n",
        "usr/share/ca-certificates/m/A.crt": "A",
        "usr/share/x.crt": "x",
    }
    entries = {path: File(store.put(text.encode())) for path, text in parts.items()}

    tree = run(store, entries, synthesize=True)

    assert store.read(cast(File, tree.entries["etc/ssl/certs/ca-certificates.crt"]).digest) == b"A\nB\n"
    assert tree.entries["usr/lib/ssl/cert.pem"] == Symlink("/etc/ssl/certs/ca-certificates.crt")
    assert tree.entries["usr/lib/ssl/certs"] == Symlink("/etc/ssl/certs")


def test_openssls_own_folder_stays() -> None:
    store = MemoryStore()
    entries: dict[str, Entry] = {
        "usr/share/ca-certificates/A.crt": File(store.put(b"A\n")),
        "usr/lib/ssl/certs": Symlink("/elsewhere"),
        "usr/lib/ssl/cert.pem": Symlink("/elsewhere.pem"),
    }

    tree = run(store, entries, synthesize=True)

    assert tree.entries["usr/lib/ssl/certs"] == Symlink("/elsewhere")
    assert tree.entries["usr/lib/ssl/cert.pem"] == Symlink("/elsewhere.pem")


def test_os_release_is_linked() -> None:
    assert synthesized({"usr/lib/os-release": file("x")})["etc/os-release"] == Symlink("../usr/lib/os-release")


def test_the_root_is_that_of_this_version() -> None:
    """Another digest here needs another ROOT_VERSION."""
    entries = {f"usr/bin/{name}": file(name) for name in ("busybox", "python3.11", "gcc-12")}

    tree = run(MemoryStore(), entries, synthesize=True, busybox_applets=True, mount_points=["mnt"])

    assert (ROOT_VERSION, tree.root.hash) == ("1", "743577b80745afa23fe1755c3240a9e50f6cc8e7edf733510e89a243e8da780b")


def test_synthesis_twice_changes_nothing() -> None:
    store = MemoryStore()
    once = run(store, {"usr/bin/python3.11": file("p"), "usr/bin/dash": file("d")}, synthesize=True)

    assert run(store, once.entries, synthesize=True) == once
