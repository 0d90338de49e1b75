"""Outputs into the store: what is taken, and what is refused."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forge.core.digest import Digest
from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, TreeContent
from forge.core.tree import File, Folder, Symlink, Tree
from forge.execution import collect as folder
from forge.execution.archive import unpack_outputs
from forge.execution.store import LocalStore

Collect = Callable[[LocalStore, str, tuple[str, ...]], dict[str, Content]]


def from_archive(store: LocalStore, out: str, outputs: tuple[str, ...]) -> dict[str, Content]:
    """As an engine gives a folder: a tar archive with that at its top."""

    def fetch() -> Iterator[bytes]:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
            archive.add(out, "out")
        return iter([data.getvalue()[at : at + 1000] for at in range(0, len(data.getvalue()), 1000)])

    return unpack_outputs(store, fetch, outputs)


@pytest.fixture(params=[folder.collect, from_archive], ids=["folder", "archive"])
def collect(request: pytest.FixtureRequest) -> Collect:
    found: Collect = request.param
    return found


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "home")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out/tree").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "out"


def test_a_folder_is_taken_with_all_that_is_in_it(collect: Collect, store: LocalStore, out: Path) -> None:
    (out / "tree/sub/empty").mkdir(parents=True)
    (out / "tree/sub/file").write_text("file")
    (out / "tree/run").write_text("run")
    (out / "tree/run").chmod(0o700)
    (out / "tree/sub/up").symlink_to("../run")

    content = collect(store, str(out), ("tree/",))["tree/"]

    assert isinstance(content, TreeContent)
    tree = Tree.decode(store.read(content.tree))
    assert tree.root == content.root
    assert tree.entries == {
        "run": File(Digest.of(b"run"), True),
        "sub/empty": Folder(),
        "sub/file": File(Digest.of(b"file")),
        "sub/up": Symlink("../run"),
    }
    assert b"file" == store.read(Digest.of(b"file"))


def test_a_file_is_taken_without_its_owner_time_and_mode(collect: Collect, store: LocalStore, out: Path) -> None:
    (out / "a/b").mkdir(parents=True)
    (out / "a/b/c").write_text("c")
    (out / "a/b/c").chmod(0o640)

    assert {"a/b/c": FileContent(Digest.of(b"c"))} == collect(store, str(out), ("a/b/c",))


def test_an_empty_folder_is_an_output(collect: Collect, store: LocalStore, out: Path) -> None:
    content = collect(store, str(out), ("tree/",))["tree/"]

    assert isinstance(content, TreeContent)
    assert {} == Tree.decode(store.read(content.tree)).entries


def test_a_hard_link_is_copied_and_its_file_left_as_it_is(collect: Collect, store: LocalStore, out: Path) -> None:
    outside = out.parent / "secret"
    os.link(outside, out / "tree/linked")
    collect(store, str(out), ("tree/",))

    assert 2 == outside.stat().st_nlink
    assert not store.path(Digest.of(b"secret")).samefile(outside)


def test_a_file_whose_first_name_is_no_output_is_taken_by_its_second(
    collect: Collect, store: LocalStore, out: Path
) -> None:
    (out / "aside").write_text("both")
    os.link(out / "aside", out / "tree/x")
    os.link(out / "aside", out / "y")

    assert FileContent(Digest.of(b"both")) == collect(store, str(out), ("tree/", "y"))["y"]
    assert b"both" == store.read(Digest.of(b"both"))


def link(target: str) -> Callable[[Path], None]:
    return lambda out: (out / "tree/x").symlink_to(target)


def special(out: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(out / "tree")
        try:
            server.bind("socket")
        finally:
            os.chdir(here)


def mode(bits: int) -> Callable[[Path], None]:
    def make(out: Path) -> None:
        (out / "tree/x").write_text("x")
        (out / "tree/x").chmod(bits)

    return make


def chain(out: Path) -> None:
    (out / "tree/a/b").mkdir(parents=True)
    (out / "tree/a/b/top").symlink_to("../..")
    (out / "tree/x").symlink_to("a/b/top/../../secret")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "absolute link": (link("/etc/passwd"), "out of its folder"),
    "link out": (link("../../secret"), "out of its folder"),
    "link to the folder above": (link(".."), "out of its folder"),
    "link out by a chain": (chain, "after a name"),
    "link that is not UTF-8": (lambda out: os.symlink(b"\xff", bytes(out / "tree/x")), "not UTF-8"),
    "name that is not UTF-8": (lambda out: os.mkdir(bytes(out / "tree") + b"/\xff"), "not UTF-8"),
    "pipe": (lambda out: os.mkfifo(out / "tree/x"), "device, socket or pipe"),
    "socket": (special, "device, socket or pipe"),
    "set-uid": (mode(0o4755), "set-uid"),
    "set-gid": (mode(0o2755), "set-uid or set-gid"),
}


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_content_fails_the_action(
    collect: Collect, store: LocalStore, out: Path, make: Callable[[Path], object], words: str
) -> None:
    if make is special and collect is from_archive:
        pytest.skip("tar knows no sockets: an engine leaves them out")
    make(out)

    with pytest.raises(ActionFailed, match=words):
        collect(store, str(out), ("tree/",))


def test_a_name_with_two_dots_is_a_name(collect: Collect, store: LocalStore, out: Path) -> None:
    link("..x")(out)

    assert collect(store, str(out), ("tree/",))


WRONG: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing": (lambda out: None, "x", "did not make its output `x`"),
    "missing folder": (lambda out: None, "x/", "did not make its output `x/`"),
    "folder, not file": (lambda out: None, "tree", "not a regular file"),
    "file, not folder": (lambda out: (out / "x").write_text(""), "x/", "not a folder"),
    "link to a file": (lambda out: (out / "x").symlink_to("../secret"), "x", "not a regular file"),
    "link to a folder": (lambda out: (out / "x").symlink_to("tree"), "x/", "not a folder"),
    "below a link": (lambda out: (out / "x").symlink_to(".."), "x/secret", "did not make its output"),
    "pipe": (lambda out: os.mkfifo(out / "x"), "x", "not a regular file"),
}


@pytest.mark.parametrize(("make", "output", "words"), WRONG.values(), ids=WRONG)
def test_an_output_must_be_what_was_declared(
    collect: Collect, store: LocalStore, out: Path, make: Callable[[Path], object], output: str, words: str
) -> None:
    make(out)

    with pytest.raises(ActionFailed, match=words):
        collect(store, str(out), (output,))
    assert not store.contains(Digest.of(b"secret"))


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_an_output_that_cannot_be_read_fails_the_action(collect: Collect, store: LocalStore, out: Path) -> None:
    (out / "tree/x").write_text("")
    (out / "tree/x").chmod(0)

    with pytest.raises(ActionFailed, match="cannot be read"):
        collect(store, str(out), ("tree/",))
