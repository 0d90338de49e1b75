"""What the validator finds in the bytes of layers."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable

import pytest

from tests.oci.handmade import Handmade, faults, folder, link, member, tar


def foreign(made: Handmade) -> str:
    layout = made.build()
    return faults(layout, made.store, foreign=list(made.store.blobs))


F, D = member("f"), folder("d")

# What no layer may have, wherever it comes from.
TARS: dict[str, tuple[bytes, str]] = {
    "absolute name": (tar([member("/etc/passwd")]), "not a relative path"),
    "name with ..": (tar([folder("a"), member("a/../b")]), "not a relative path"),
    "name in a roundabout way": (tar([folder("a"), member("a/./b")]), "not a relative path"),
    "name that is not UTF-8": (tar([member("\udcff")]), "is not UTF-8"),
    "name twice": (tar([F, F]), "`f` is there twice"),
    "folder twice": (tar([D, D]), "`d` is there twice"),
    "file below a link": (tar([link("a", "/etc"), member("a/b")]), "below `a`, which is not a folder"),
    "hard link out of the image": (tar([link("a", "../x", tarfile.LNKTYPE)]), ""),
    "whiteout with content": (tar([member(".wh.a", b"x")]), "is malformed"),
    "whiteout of nothing": (tar([member(".wh.")]), "is malformed"),
    "whiteout of the parent": (tar([member(".wh...")]), "is malformed"),
    "whiteout that is a folder": (tar([folder(".wh.a")]), "is malformed"),
    "whiteout of aufs": (tar([member(".wh..wh.plnk")]), "is malformed"),
    "file below a whiteout": (tar([folder(".wh.a"), member(".wh.a/b")]), "lies below a whiteout"),
    "link to nothing": (tar([link("a", "")]), "leads nowhere"),
    "bytes after the end": (tar([F]) + tar([member("hidden")]), "Bytes follow the end"),
    "broken header": (tar([F])[:512] + b"x" * 512 + bytes(1024), "Bytes follow the end"),
    "ends within a file": (tar([member("f", b"x" * 5000)])[:2000], "malformed"),
    "no tar": (b"x" * 2048, "malformed"),
}


@pytest.mark.parametrize("kind", TARS)
def test_a_fault_of_a_tar_is_found(kind: str) -> None:
    data, message = TARS[kind]
    made, other = Handmade(tars=[data]), Handmade(tars=[data])

    assert message in faults(made.build(), made.store) != ""
    assert message in foreign(other) != ""


# What is unusual in a layer of forge's, and usual elsewhere.
HOUSE: dict[str, tuple[bytes, str]] = {
    "setuid": (tar([member("su", mode=0o4755)]), "setuid or setgid: 4755"),
    "setgid folder": (tar([folder("d", mode=0o2755)]), "setuid or setgid: 2755"),
    "writable by all": (tar([member("f", mode=0o666)]), "Anybody may write"),
    "folder writable by all": (tar([folder("d", mode=0o777)]), "Anybody may write"),
    "owner": (tar([member("f", uid=1000)]), "belongs to 1000:0"),
    "owner's name": (tar([member("f", uname="root")]), "belongs to 0:0 `root:`"),
    "time": (tar([member("f", mtime=1)]), "has the time 1"),
    "device": (tar([member("null", type=tarfile.CHRTYPE)]), "neither file, folder nor link"),
    "block device": (tar([member("sda", type=tarfile.BLKTYPE)]), "neither file, folder nor link"),
    "pipe": (tar([member("p", type=tarfile.FIFOTYPE)]), "neither file, folder nor link"),
    "hard link": (tar([F, link("g", "f", tarfile.LNKTYPE)]), "neither file, folder nor link"),
    "not sorted": (tar([member("b"), member("a")]), "`a` comes after `b`"),
    "without its folder": (tar([member("a/b")]), "`a/b` comes without its folder"),
    "folder after its content": (tar([member("a/b"), folder("a")]), "comes without its folder"),
    "file capability": (tar([member("f", pax_headers={"SCHILY.xattr.security.capability": "x"})]), "the attribute"),
    "dot before names": (tar([folder("."), member("./f")]), "not a relative path"),
    "no end": (tar([F])[:512], "lacks its end"),
}


@pytest.mark.parametrize("kind", HOUSE)
def test_i02_a_rule_of_the_house_holds_for_its_own_layers_only(kind: str) -> None:
    data, message = HOUSE[kind]
    made, other = Handmade(tars=[data]), Handmade(tars=[data])

    assert message in faults(made.build(), made.store)
    assert foreign(other) == ""


GZIPS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut off": (lambda data: gzip.compress(data)[:-9], "cannot be decompressed"),
    "wrong checksum": (lambda data: gzip.compress(data)[:-8] + bytes(8), "cannot be decompressed"),
    "followed by rubbish": (lambda data: gzip.compress(data) + b"rubbish", "cannot be decompressed"),
    "not compressed": (lambda data: data, "cannot be decompressed"),
    "zlib": (zlib.compress, "cannot be decompressed"),
    "empty": (lambda data: b"", "cannot be decompressed"),
    "many members": (lambda data: gzip.compress(data[:700]) + gzip.compress(b"") + gzip.compress(data[700:]), ""),
}


@pytest.mark.parametrize("kind", GZIPS)
def test_compression(kind: str) -> None:
    compress, message = GZIPS[kind]
    made = Handmade(compress=compress)

    found = faults(made.build(), made.store)
    assert message in found
    assert bool(found) == bool(message)


def test_a_hostile_header_takes_no_memory() -> None:
    """A PAX header that says it has 7 GiB."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 7 << 30
    made = Handmade(tars=[info.tobuf(tarfile.USTAR_FORMAT) + bytes(4096)])

    assert "malformed: a header of" in faults(made.build(), made.store)


def test_a_chain_of_headers_is_no_endless_recursion() -> None:
    record = b"11 path=ab\n"
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    made = Handmade(tars=[(info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0")) * 2000 + bytes(1024)])

    assert "malformed" in faults(made.build(), made.store)


def test_a_bomb_is_read_in_bounded_memory() -> None:
    data = tar([member("zeros", bytes(30 << 20))])
    made = Handmade(tars=[data])

    assert faults(made.build(), made.store) == ""
