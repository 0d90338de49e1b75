"""Compressed bytes: readable by all, the same whatever the chunks and threads."""

from __future__ import annotations

import gzip as stdlib
import random
import struct

import pytest

from forge.core.digest import Digest
from forge.oci import gzip

DATA = random.Random(0).randbytes(1 << 20) + b"forge " * (gzip.MEMBER // 4)


def compress(chunks: list[bytes], workers: int = 2) -> tuple[bytes, Digest]:
    out = bytearray()
    digest = gzip.compress(chunks, out.extend, workers=workers)
    return bytes(out), digest


@pytest.mark.parametrize(
    "data",
    [b"", b"x", DATA[: gzip.MEMBER], DATA[: gzip.MEMBER + 1], DATA],
    ids=["empty", "one byte", "one member", "one byte more", "several"],
)
def test_python_reads_it(data: bytes) -> None:
    packed, digest = compress([data])

    assert digest == Digest.of(data)
    assert stdlib.decompress(packed) == data


def test_neither_chunks_nor_threads_matter() -> None:
    whole = compress([DATA])
    cut = [DATA[start : start + 99_991] for start in range(0, len(DATA), 99_991)]

    assert compress(cut, workers=1) == whole
    assert compress([b"", *cut, b""], workers=5) == whole


def test_headers_hold_no_time_and_no_system() -> None:
    packed, _ = compress([b"x"])

    assert struct.unpack("<2sBBIBB", packed[:10]) == (b"\x1f\x8b", 8, 0, 0, 0, 255)


def test_a_fault_of_the_source_comes_through() -> None:
    def broken() -> list[bytes]:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        gzip.compress((chunk for _ in (0,) for chunk in broken()), lambda piece: None)
