"""Wheels that forge refuses."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

import pytest

from tests.packages.test_wheel import (
    MODULE,
    NAME,
    WHEEL,
    contents,
    pack,
    record,
    refusal,
    wheel,
)

RECORD = "demo-1.0.dist-info/RECORD"
GOOD = wheel()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../evil.py", "leaves the archive"),
        ("demo/../../evil.py", "leaves the archive"),
        ("/etc/passwd", "absolute path"),
        ("demo//evil.py", "no plain path"),
        ("./evil.py", "no plain path"),
        ("demo\\..\\evil.py", "no plain path"),
        ("demo-1.0.data/scripts/../../../evil", "leaves the archive"),
        ("demo-1.0.data/data/../../evil", "leaves the archive"),
        ("demo-1.0.data/stdlib/os.py", "none of [purelib"),
        ("demo-1.0.data/evil", "belongs to no scheme"),
        ("n" * 300, "no path"),
        ("demo/__init__.py/evil", "lies below something"),
        ("other-1.0.dist-info/METADATA", "one .dist-info folder"),
        ("demo-1.0.data/purelib/demo/__init__.py", "Two files go to"),
    ],
)
def test_a_path_that_leads_astray_is_refused(path: str, words: str) -> None:
    text = refusal(wheel({**MODULE, path: b"evil"}))

    assert words in text
    assert text.startswith(f"{NAME}: ")


@pytest.mark.parametrize("mode", [0o120777, 0o060644, 0o020644, 0o010644, 0o140644, 0o040755], ids=oct)
def test_links_devices_pipes_and_sockets_are_refused(mode: int) -> None:
    assert "is a link, a device or a pipe" in refusal(wheel({"demo/odd": b"/etc/passwd"}, {"demo/odd": mode}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice_is_refused() -> None:
    out = io.BytesIO(GOOD)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("demo/__init__.py", b"evil")

    assert "Two entries are called `demo/__init__.py`" in refusal(out.getvalue())


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (b"", "no hash of"),
        (record({"demo-1.0.dist-info/WHEEL": WHEEL}), "no hash of `demo/__init__.py`"),
        (
            record({"demo-1.0.dist-info/WHEEL": WHEEL, "demo/__init__.py": b"print('evil')\n"}),
            "is not what RECORD says",
        ),
        (record({"demo-1.0.dist-info/WHEEL": WHEEL, **MODULE, "gone": b""}), "names `gone`, which is not in the wheel"),
        (record({"demo-1.0.dist-info/WHEEL": WHEEL, **MODULE}).replace(b",14\n", b",15\n"), "is not what RECORD says"),
        (record({"demo-1.0.dist-info/WHEEL": WHEEL, **MODULE}, "md5"), "the hash `md5`"),
        (record({"demo-1.0.dist-info/WHEEL": WHEEL}) + b"demo/__init__.py,,\n", "no hash of `demo/__init__.py`"),
        (record({"demo-1.0.dist-info/WHEEL": WHEEL}) + b"demo/__init__.py,sha256=short,1\n", "malformed hash"),
        (record({"demo-1.0.dist-info/WHEEL": WHEEL}) + b"demo/__init__.py\n", "a line of 1 fields"),
        (record(MODULE) + record({"demo/__init__.py": b"x"}), "two things of `demo/__init__.py`"),
        (record(MODULE).replace(b",14\n", b",-14\n"), "the size `-14`"),
        (b'"open', "no CSV"),
        (b"\xff\xfe", "not UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_record_that_does_not_hold_is_refused(lines: bytes, words: str) -> None:
    assert words in refusal(wheel({**MODULE, RECORD: lines}))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"demo/x": b""}, "one .dist-info folder, has []"),
        ({"demo-1.0.dist-info/RECORD": b""}, "no `demo-1.0.dist-info/WHEEL`"),
        ({"demo-1.0.dist-info/WHEEL": WHEEL}, "no `demo-1.0.dist-info/RECORD`"),
        ({"demo-1.0.dist-info/WHEEL": b"Wheel-Version: 2.0\n"}, "Wheel-Version is [2.0]"),
        ({"demo-1.0.dist-info/WHEEL": b"Generator: x\n"}, "Wheel-Version is []"),
    ],
)
def test_a_wheel_without_its_papers_is_refused(files: Mapping[str, bytes], words: str) -> None:
    assert words in refusal(pack(files))


@pytest.mark.parametrize(
    "declared",
    [
        "demo = os:system('x')",
        "demo = demo",
        "demo = demo:main; import evil",
        "../../../etc/cron.d/x = demo:main",
        ".. = demo:main",
        "no-equals-sign",
    ],
)
def test_an_entry_point_that_is_none_is_refused(declared: str) -> None:
    files = {"demo-1.0.dist-info/entry_points.txt": f"[console_scripts]\n{declared}\n".encode()}

    assert refusal(wheel(files))


def test_a_program_and_an_entry_point_of_one_name_are_refused() -> None:
    files = {"demo-1.0.data/scripts/x": b"", "demo-1.0.dist-info/entry_points.txt": b"[console_scripts]\nx = demo:x\n"}

    assert "Two files go to `usr/local/bin/x`" in refusal(wheel(files))


@pytest.mark.parametrize("size", [0, 1, 30, len(GOOD) // 2, len(GOOD) - 22, len(GOOD) - 1])
def test_a_wheel_cut_short_is_refused(size: int) -> None:
    assert refusal(GOOD[:size])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"#!/bin/sh\n" + GOOD, "hidden before"),
        (GOOD + b"more", ""),
        (GOOD + GOOD, "hidden before"),
    ],
    ids=["before", "after", "twice"],
)
def test_data_around_the_archive_is_refused(data: bytes, words: str) -> None:
    assert words in refusal(data)


def test_a_comment_that_claims_more_than_there_is_is_refused() -> None:
    assert refusal(GOOD[:-2] + struct.pack("<H", 7) + b"four")


def _patched(offset: int, replacement: bytes) -> bytes:
    return GOOD[:offset] + replacement + GOOD[offset + len(replacement) :]


@pytest.mark.parametrize(
    "data",
    [
        _patched(GOOD.index(b"demo/__init__.py"), b"evil/__init__.py"),
        _patched(GOOD.rindex(b"demo/__init__.py"), b"evil/__init__.py"),
        _patched(GOOD.index(b"demo/__init__.py") - 16, b"\0\0\0\0"),
        _patched(GOOD.index(b"demo/__init__.py") - 8, b"\7\0\0\0"),
        _patched(8, struct.pack("<H", zipfile.ZIP_STORED)),
        _patched(6, struct.pack("<H", 0x8)),
        _patched(0, b"PK\1\2"),
    ],
    ids=["local name", "central name", "checksum", "size", "method", "flags", "magic"],
)
def test_headers_that_disagree_are_refused(data: bytes) -> None:
    assert refusal(data)


def test_damaged_contents_are_refused() -> None:
    position = GOOD.index(b"demo/__init__.py") + len("demo/__init__.py")

    assert "damaged" in refusal(_patched(position, b"\xff\xff"))


def test_an_entry_hidden_from_the_directory_is_refused() -> None:
    hidden = pack({"demo/evil.py": b"evil"})
    hidden = hidden[: hidden.index(b"PK\1\2")]
    directory = GOOD.index(b"PK\1\2")
    end = len(GOOD) - 22
    moved = struct.pack("<I", directory + len(hidden))
    data = GOOD[:directory] + hidden + GOOD[directory : end + 16] + moved + GOOD[end + 20 :]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert "demo/evil.py" not in archive.namelist()

    assert "hidden before the directory" in refusal(data)


def test_entries_that_overlap_are_refused() -> None:
    """Fifield's zip bomb: many names for one piece of compressed data."""
    files = contents({"demo/a": b"x" * 100, "demo/b": b"x" * 100})
    data = bytearray(pack(files))
    directory = data.index(b"PK\1\2")
    entry = data.rindex(b"demo/b") - 46
    data[entry + 42 : entry + 46] = data[data.index(b"demo/a", directory) - 4 : data.index(b"demo/a", directory)]

    assert refusal(bytes(data))


def test_an_encrypted_entry_is_refused() -> None:
    data = bytearray(GOOD)
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1

    assert "is encrypted" in refusal(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_compression_is_refused(method: int) -> None:
    assert "no known way" in refusal(pack(contents(MODULE), compression=method))


def test_a_bomb_is_refused() -> None:
    files = {"demo/zeros": bytes(110 << 20)}

    assert "200 times its size" in refusal(pack(files))


def test_a_size_beyond_all_measure_is_refused() -> None:
    data = bytearray(GOOD)
    position = data.index(b"PK\1\2") + 20
    data[position : position + 8] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)

    assert refusal(bytes(data))
