"""Archives against Python's own reader and writer."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings

from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.tree import Entry, File, Folder, Symlink, Tree
from forge.oci import tar
from tests.fakes.store import MemoryStore
from tests.oci.strategy import CONTENT, trees


def write(entries: dict[str, Entry]) -> bytes:
    store = MemoryStore()
    for data in CONTENT.values():
        store.put(data)
    return b"".join(tar.stream(tar.parts(entries), store))


def read(data: bytes) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", encoding="utf-8") as archive:
        for member in archive:
            assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", 0)
            if member.isdir():
                assert member.mode == (0o1777 if member.name in ("tmp", "var/tmp") else 0o755)
                found[member.name] = Folder()
            elif member.issym():
                found[member.name] = Symlink(member.linkname)
            else:
                body = archive.extractfile(member)
                assert body is not None
                found[member.name] = File(Digest.of(body.read()), member.mode == 0o755)
    return found


@settings(max_examples=60, deadline=None)
@given(trees())
def test_pythons_reader_finds_the_same_tree(entries: dict[str, Entry]) -> None:
    assert Tree.of(read(write(entries))).root == Tree.of(entries).root


@settings(max_examples=20, deadline=None)
@given(trees())
def test_every_folder_is_an_entry_and_comes_before_its_content(entries: dict[str, Entry]) -> None:
    names = list(read(write(entries)))

    assert names == sorted({*entries, *Tree.of(entries).folders()}, key=str.encode)


def test_what_ustar_can_hold_is_what_python_writes() -> None:
    long = "/".join(["d" * 50] * 4)
    entries: dict[str, Entry] = {"a": File(Digest.of(b"y" * 511), executable=True), long: Symlink("a")}
    out = io.BytesIO()
    for path in (*sorted({*Tree.of(entries).folders(), *entries}),):
        info = tarfile.TarInfo(path)
        info.type = {"a": tarfile.REGTYPE, long: tarfile.SYMTYPE}.get(path, tarfile.DIRTYPE)
        info.mode = 0o777 if path == long else 0o755
        info.size, info.linkname = (511, "") if path == "a" else (0, "a" if path == long else "")
        out.write(info.tobuf(tarfile.USTAR_FORMAT) + (b"y" * 511 + b"\0" if path == "a" else b""))

    assert write(entries) == out.getvalue() + bytes(1024)


def test_a_pax_header_is_there_only_where_ustar_cannot_hold_a_value() -> None:
    assert write({"/".join(["d" * 99] * 2): Folder()}).count(b"PaxHeader") == 0
    assert write({"d" * 101: Folder()}).count(b"PaxHeader") == 1
    assert write({"\u00e9": Folder()}).count(b"PaxHeader") == 1
    assert write({"a": Symlink("t" * 101)}).count(b"PaxHeader") == 1


@pytest.mark.parametrize("size", [(8 << 30) - 1, 8 << 30, 20 << 30], ids=["largest of ustar", "8 GiB", "20 GiB"])
def test_sizes_of_large_files(size: int) -> None:
    header = next(tar.parts({"big": File(Digest("0" * 64, size))}))
    assert isinstance(header, bytes)

    with tarfile.open(fileobj=io.BytesIO(header + bytes(512)), mode="r:") as archive:
        assert archive.firstmember is not None  # type: ignore[attr-defined]
        assert archive.firstmember.size == size  # type: ignore[attr-defined]


def test_a_blob_that_is_shorter_than_its_digest_says_is_an_error() -> None:
    store = MemoryStore()
    store.blobs[Digest("0" * 64, 10)] = b"short"

    with pytest.raises(MaterialError, match="5 bytes"):
        b"".join(tar.stream(tar.parts({"a": File(Digest("0" * 64, 10))}), store))


def test_a_missing_blob_is_an_error() -> None:
    with pytest.raises(MaterialError, match="lacks"):
        b"".join(tar.stream(tar.parts({"a": File(Digest("0" * 64, 10))}), MemoryStore()))
