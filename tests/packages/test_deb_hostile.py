"""Debian packages that forge refuses."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.core.errors import ActionFailed
from tests.packages.test_deb import CONTROL, ar, deb, member, refusal, run, tar, zstd


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([member("../x")], "leaves the archive"),
        ([member("./usr/../../x")], "leaves the archive"),
        ([member("/etc/passwd")], "absolute path"),
        ([member("./a", tarfile.SYMTYPE, link="/etc"), member("./a/passwd")], "`a/passwd` lies below"),
        ([member("./a/passwd"), member("./a", tarfile.SYMTYPE, link="/etc")], "`a`"),
        ([member("./a", tarfile.LNKTYPE, link="../../etc/shadow")], "leaves the archive"),
        ([member("./a", tarfile.LNKTYPE, link="/etc/shadow")], "absolute path"),
        ([member("./a", tarfile.LNKTYPE, link="./etc/shadow")], "no file before it"),
        ([member("./d", tarfile.DIRTYPE), member("./a", tarfile.LNKTYPE, link="./d")], "no file before it"),
        ([member("./s", tarfile.SYMTYPE, link="/x"), member("./a", tarfile.LNKTYPE, link="./s")], "no file before it"),
        ([member("./a"), member("./a", data=b"x")], "Two entries are called `a`"),
        ([member("./bin/a"), member("./usr/bin/a")], "Two entries are called `usr/bin/a`"),
        ([member("./a"), member("./a", tarfile.DIRTYPE)], "Two entries are called `a`"),
        ([member("./a", tarfile.DIRTYPE), member("./a")], "Two entries are called `a`"),
        ([member("./dev/sda", tarfile.BLKTYPE)], "a device"),
        ([member("./dev/tty", tarfile.CHRTYPE)], "a device"),
        ([member("./pipe", tarfile.FIFOTYPE)], "a pipe"),
        ([member("./sparse", tarfile.GNUTYPE_SPARSE)], "a sparse file"),
        ([member("./odd", b"V")], "unknown type"),
        ([member("./a", tarfile.SYMTYPE, link="")], "links to nothing"),
        ([member("./a", tarfile.DIRTYPE, data=b"x")], "no file"),
        ([member("./" + "n" * 300)], "no path"),
        ([member("./" + "n/" * 3000 + "x")], "no path"),
        ([member(".", tarfile.SYMTYPE, link="/etc")], "root is no folder"),
        ([member("./var/lib/dpkg/status.d/demo")], "Holds `var/lib/dpkg/status.d/demo` itself"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_hostile_members_are_refused(members: list[tuple[tarfile.TarInfo, bytes]], words: str) -> None:
    text = refusal(deb(tar(*members)))

    assert words in text
    assert text.startswith("demo.deb: ")


def test_a_pax_name_cannot_hide_where_a_file_goes() -> None:
    assert "leaves the archive" in refusal(_pax(member("./harmless"), {"path": "./a/../../../etc/passwd"}))


def test_a_pax_link_cannot_hide_where_it_points() -> None:
    link = member("./harmless", tarfile.LNKTYPE, link="./x")

    assert "leaves the archive" in refusal(_pax(link, {"linkpath": "../../etc/shadow"}))


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"size": str(1 << 60)}, "Cut short"),
        ({"size": "-1"}, "Damaged pax header"),
        ({"path": "a\0b"}, "no path"),
        ({"GNU.sparse.major": "1"}, "a sparse file"),
        ({"comment": "x" * (2 << 20)}, "a name of"),
    ],
)
def test_a_pax_header_that_makes_no_sense_is_refused(headers: Mapping[str, str], words: str) -> None:
    assert words in refusal(_pax(member("./a", data=b"x"), headers))


def test_one_name_for_all_files_is_refused() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "x"}) as archive:
        archive.addfile(member("./a")[0])

    assert "one name for all" in refusal(deb(out.getvalue()))


def _pax(entry: tuple[tarfile.TarInfo, bytes], headers: Mapping[str, str]) -> bytes:
    entry[0].pax_headers = dict(headers)
    return deb(tar(entry, format=tarfile.PAX_FORMAT))


def test_a_name_that_is_no_text_is_refused() -> None:
    info, data = member("./a")
    info.name = "./\udcff"

    assert "not UTF-8" in refusal(deb(tar((info, data))))


def test_a_negative_size_is_refused() -> None:
    assert "Damaged tar header" in refusal(deb(_with_size(b"\xff" * 12)))


def test_a_file_beyond_all_measure_is_refused() -> None:
    assert "Holds a file of" in refusal(deb(_with_size(b"\x80" + b"\x01" * 11)))


def test_a_size_in_binary_is_read() -> None:
    assert run(deb(_with_size(b"\x80" + bytes(10) + b"\x01"))) == run(deb(tar(member("./a", data=b"x"))))


def _with_size(field: bytes) -> bytes:
    block = bytearray(tar(member("./a", data=b"x")))
    block[124:136] = field
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block[:512]):06o}\0 ".encode()
    return bytes(block)


GOOD = tar(member("./usr/lib/a", data=b"some text" * 100), member("./usr/lib/b", data=b"more"))


@pytest.mark.parametrize("size", [0, 100, 512, 700, 1024, 1536, 2048, 2560])
def test_a_tar_that_ends_early_is_refused(size: int) -> None:
    assert "Cut short" in refusal(deb(GOOD[:size]))


@pytest.mark.parametrize("position", [0, 130, 156, 1536, 1540])
def test_a_damaged_header_is_refused(position: int) -> None:
    damaged = GOOD[:position] + bytes([GOOD[position] ^ 0x55]) + GOOD[position + 1 :]

    assert "Damaged tar header" in refusal(deb(damaged))


def test_data_after_the_end_of_a_tar_is_refused() -> None:
    assert "after its end" in refusal(deb(GOOD + GOOD))


@pytest.mark.parametrize("cut", [1, 20, 60])
@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress), (".zst", zstd)], ids=["gz", "xz", "zst"]
)
def test_compressed_data_that_ends_early_is_refused(suffix: str, compress: Callable[[bytes], bytes], cut: int) -> None:
    data = compress(tar(member("./a", data=bytes(range(256)) * 99)))

    assert refusal(deb(data[:-cut], name=f"data.tar{suffix}"))


def test_a_bomb_is_refused() -> None:
    bomb = lzma.compress(tar(member("./zeros", data=bytes(110 << 20))), preset=0)

    assert "200 times its size" in refusal(deb(bomb, name="data.tar.xz"))


def test_xz_that_wants_gigabytes_of_memory_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    packed = bytearray(lzma.compress(GOOD, filters=filters))
    # Block header: size, flags, filter id, length of properties, dictionary size; then its CRC32.
    packed[16] = 40
    packed[20:24] = struct.pack("<I", zlib.crc32(packed[12:20]))

    assert "emory" in refusal(deb(bytes(packed), name="data.tar.xz"))


CONTROL_TAR = ("control.tar", tar(member("./control", data=CONTROL.encode())))
FORMAT = ("debian-binary", b"2.0\n")
DATA = ("data.tar", GOOD)


@pytest.mark.parametrize(
    ("package", "words"),
    [
        (b"", "Not an `ar` archive"),
        (b"PK\3\4", "Not an `ar` archive"),
        (ar(FORMAT, CONTROL_TAR, DATA)[:-700], "Cut short"),
        (ar(FORMAT, CONTROL_TAR)[:90], "Damaged `ar` header"),
        (ar(FORMAT, CONTROL_TAR), "Has no `data.tar`"),
        (ar(FORMAT, DATA, CONTROL_TAR), "Unexpected member `data.tar`"),
        (ar(FORMAT, CONTROL_TAR, DATA, DATA), "Unexpected member `data.tar`"),
        (ar(CONTROL_TAR, FORMAT, DATA), "Unexpected member `control.tar`"),
        (ar(("debian-binary", b"3.0\n"), CONTROL_TAR, DATA), "format 2"),
        (ar(FORMAT, CONTROL_TAR, ("data.tar.lz", GOOD)), "no known way"),
        (ar(FORMAT, CONTROL_TAR, ("data.tar.xz", GOOD)), "damaged"),
        (ar(FORMAT, ("control.tar", GOOD), DATA), "one `control` file"),
        (ar(FORMAT, ("control.tar", tar(member("control", tarfile.DIRTYPE))), DATA), "no small file"),
        (ar(FORMAT, ("control.tar", tar(member("control", data=b"\xff"))), DATA), "not UTF-8"),
        (ar(("d\xe9b", b"")), "Damaged `ar` header"),
        (ar(("x", b"1")).replace(b"1\n", b"1x"), "Unexpected member `x`"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_odd_package_is_refused(package: bytes, words: str) -> None:
    assert words in refusal(package)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10_000), st.binary(min_size=1, max_size=4), st.sampled_from([bytes, gzip.compress, lzma.compress])
)
def test_no_damage_ends_in_a_traceback(position: int, bytes_: bytes, compress: Callable[[bytes], bytes]) -> None:
    suffix = {bytes: "", gzip.compress: ".gz", lzma.compress: ".xz"}[compress]
    good = deb(compress(GOOD), name=f"data.tar{suffix}")
    position %= len(good)

    with contextlib.suppress(ActionFailed):
        run(good[:position] + bytes_ + good[position + len(bytes_) :])


@pytest.mark.parametrize(
    "control",
    [
        "Package: ../../etc/cron.d/x\n",
        "Package: a/b\n",
        "Version: 1\n",
        "Package: demo\nPackage: other\n",
        "Package: demo\n\nPackage: other\n",
        "",
    ],
)
def test_a_control_file_of_another_kind_is_refused(control: str) -> None:
    assert "one paragraph" in refusal(deb(GOOD, control=control))
