"""Debian packages become trees."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Mapping
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.core.digest import Digest
from forge.core.errors import ActionFailed
from forge.core.tool import FileContent, ToolRequest, TreeContent
from forge.core.tree import Entry, File, Folder, Symlink, Tree, TreeError
from forge.packages.unpack import UNPACK_VERSION, unpack
from tests.fakes.store import MemoryStore

CONTROL = "Package: demo\nVersion: 1.0\nArchitecture: amd64\nDescription: a demo\n with two lines\n .\n and a third\n"


def member(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", link: str = "", mode: int = 0o644
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.mode = kind, len(data), link, mode
    return info, data


def tar(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data) if data else None)
    return out.getvalue()


def ar(*members: tuple[str, bytes]) -> bytes:
    out = b"!<arch>\n"
    for name, data in members:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return out


def deb(data: bytes, *, name: str = "data.tar", control: str = CONTROL) -> bytes:
    control_tar = tar(member("./control", data=control.encode()))
    return ar(("debian-binary", b"2.0\n"), ("control.tar.xz", lzma.compress(control_tar)), (name, data))


def run(package: bytes, store: MemoryStore | None = None) -> Tree:
    store = store or MemoryStore()
    file = FileContent(store.put(package))
    out = unpack(ToolRequest({"format": "deb", "name": "demo.deb"}, {"file": file}, store))["tree"]
    assert isinstance(out, TreeContent)
    tree = Tree.decode(store.read(out.tree))
    assert tree.root == out.root
    return tree


def entries(*members: tuple[tarfile.TarInfo, bytes]) -> dict[str, Entry]:
    found = dict(run(deb(tar(*members))).entries)
    del found["var/lib/dpkg/status.d/demo"]
    return found


def refusal(package: bytes) -> str:
    with pytest.raises(ActionFailed) as caught:
        run(package)
    return str(caught.value)


def test_files_links_and_folders_become_entries() -> None:
    expected: dict[str, Entry] = {
        "usr/bin/tool": File(Digest.of(b"#!"), executable=True),
        "usr/bin/other": File(Digest.of(b"#!"), executable=True),
        "usr/share/demo/text": File(Digest.of(b"text")),
        "usr/share/demo/link": Symlink("../text"),
        "var/empty": Folder(),
    }

    actual = entries(
        member("./", tarfile.DIRTYPE, mode=0o755),
        member("./usr/bin/tool", data=b"#!", mode=0o755),
        member("./usr/bin/other", tarfile.LNKTYPE, link="./usr/bin/tool"),
        member("./usr/share/demo/text", data=b"text"),
        member("./usr/share/demo/link", tarfile.SYMTYPE, link="../text"),
        member("./var/empty", tarfile.DIRTYPE),
    )

    assert actual == expected


def test_merged_folders_move_into_usr() -> None:
    actual = entries(
        member("./bin", tarfile.SYMTYPE, link="usr/bin"),
        member("./bin/sh", tarfile.SYMTYPE, link="dash"),
        member("./lib64/", tarfile.DIRTYPE),
        member("./lib64/ld.so", tarfile.SYMTYPE, link="/lib/x86_64-linux-gnu/ld.so"),
        member("./lib/x86_64-linux-gnu/ld.so", data=b"elf"),
        member("./library/x", data=b""),
    )

    assert list(actual) == ["library/x", "usr/bin/sh", "usr/lib/x86_64-linux-gnu/ld.so", "usr/lib64/ld.so"]
    assert actual["usr/lib64/ld.so"] == Symlink("/lib/x86_64-linux-gnu/ld.so")


def test_documentation_is_left_out_and_licences_stay() -> None:
    actual = entries(
        member("./usr/share/doc/demo/copyright", data=b"c"),
        member("./usr/share/doc/demo/changelog.gz", data=b"c"),
        member("./usr/share/doc/demo-other", tarfile.SYMTYPE, link="demo"),
        member("./usr/share/man/man1/demo.1", data=b"c"),
        member("./usr/share/man/man1/other.1", tarfile.LNKTYPE, link="./usr/share/man/man1/demo.1"),
        member("./usr/share/locale/de/demo.mo", data=b"c"),
        member("./usr/share/manual", data=b"c"),
    )

    assert list(actual) == ["usr/share/doc/demo-other", "usr/share/doc/demo/copyright", "usr/share/manual"]


def test_the_control_paragraph_becomes_the_status_that_scanners_read() -> None:
    store = MemoryStore()
    expected = CONTROL.replace("demo\n", "demo\nStatus: install ok installed\n", 1)

    tree = run(deb(tar(member("./a"))), store)

    status = cast(File, tree.entries["var/lib/dpkg/status.d/demo"])
    assert store.read(status.digest).decode() == expected


def test_setuid_is_no_content() -> None:
    plain = run(deb(tar(member("./usr/bin/su", data=b"x", mode=0o755))))

    assert run(deb(tar(member("./usr/bin/su", data=b"x", mode=0o6755)))) == plain


def zstd(data: bytes) -> bytes:
    return cast(bytes, pytest.importorskip("zstandard").ZstdCompressor().compress(data))


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress), (".zst", zstd)],
    ids=["none", "gz", "xz", "zst"],
)
def test_every_compression_gives_the_same_tree(suffix: str, compress: Callable[[bytes], bytes]) -> None:
    data = tar(member("./usr/lib/big", data=bytes(range(256)) * 20_000))

    tree = run(deb(compress(data), name=f"data.tar{suffix}"))

    assert tree == run(deb(data))


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_long_and_foreign_names_are_read(format: int) -> None:
    path, target = "usr/share/" + "long/" * 60 + "Fő", "../" * 70 + "ő"

    tree = run(deb(tar(member(f"./{path}", data=b"x"), member("./z", tarfile.SYMTYPE, link=target), format=format)))

    assert tree.entries[path] == File(Digest.of(b"x"))
    assert tree.entries["z"] == Symlink(target)


def test_progress_counts_the_packages_bytes() -> None:
    store, seen = MemoryStore(), list[tuple[int, int]]()
    data = tar(member("./big", data=bytes(9 << 20)))
    file = FileContent(store.put(deb(data)))

    unpack(ToolRequest({"format": "deb"}, {"file": file}, store, lambda done, total: seen.append((done, total))))

    assert len(seen) == 2
    assert all(0 < done <= total == file.digest.size for done, total in seen)


def test_the_tree_is_that_of_this_version() -> None:
    """Another digest here needs another UNPACK_VERSION."""
    data = tar(
        member("./lib/x", data=b"x", mode=0o755),
        member("./etc/l", tarfile.SYMTYPE, link="x"),
        member("./usr/share/man/x"),
    )

    assert (UNPACK_VERSION, run(deb(data)).root.hash) == (
        "1",
        "7b6d00fa3669b8bb8481cf597a6867f0436195942733b97ed26acfd180f75621",
    )


def test_members_for_local_use_are_skipped() -> None:
    data = tar(member("./a", data=b"x"))
    format_, control = ("debian-binary", b"2.0\n"), ("control.tar", tar(member("./control", data=CONTROL.encode())))

    package = ar(format_, ("_gpgorigin", b"odd"), control, ("data.tar", data), ("_more", b"x"))

    assert run(package) == run(deb(data))


names = st.text("abXY._-é ", min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
contents = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=1100), st.booleans()),
    st.tuples(st.just("link"), paths, st.just(False)),
    st.tuples(st.just("folder"), st.just(b""), st.just(False)),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(paths, contents, max_size=8), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_what_tarfile_packs_comes_out_again(items: Mapping[str, tuple[str, bytes | str, bool]], format: int) -> None:
    expected: dict[str, Entry] = {}
    members = []
    for path, (kind, value, executable) in items.items():
        if isinstance(value, str):
            expected[path] = Symlink(value)
            members.append(member(f"./{path}", tarfile.SYMTYPE, link=value))
        elif kind == "file":
            expected[path] = File(Digest.of(value), executable)
            members.append(member(f"./{path}", data=value, mode=0o755 if executable else 0o600))
        else:
            expected[path] = Folder()
            members.append(member(f"./{path}/", tarfile.DIRTYPE))
    package = deb(tar(*members, format=format))
    try:
        root = Tree.of(expected)
    except TreeError:
        assert refusal(package)
        return

    tree = run(package)

    status = tree.entries["var/lib/dpkg/status.d/demo"]
    assert tree.root == Tree.of({**root.entries, "var/lib/dpkg/status.d/demo": status}).root
