"""The header of a GGUF file, judged before the library."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from forge_runtime import LoadError
from forge_runtime.gguf import Header, read_header

ARCHITECTURE = ("general.architecture", 8, struct.pack("<Q", 4) + b"gpt2")


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def make(
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    keys: list[tuple[str, int, bytes]] | None = None,
    tensors: list[tuple[bytes, int, int]] | None = None,
    counts: tuple[int, int] | None = None,
    data: int = 64,
) -> bytes:
    """Put a file together: keys as (name, type, bytes), tensors as (name, dimensions, offset)."""
    keys = [ARCHITECTURE] if keys is None else keys
    tensors = [(b"w", 1, 0)] if tensors is None else tensors
    head = magic + struct.pack("<IQQ", version, *(counts or (len(tensors), len(keys))))
    for name, kind, value in keys:
        head += text(name.encode()) + struct.pack("<I", kind) + value
    for name_, dimensions, offset in tensors:
        head += text(name_) + struct.pack("<I", dimensions) + b"\1\0\0\0\0\0\0\0" * dimensions
        head += struct.pack("<IQ", 0, offset)
    return head + b"\0" * (-len(head) % 32) + b"\0" * data


def read(tmp_path: Path, content: bytes) -> Header:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    return read_header(path)


def test_a_whole_header_is_read(tmp_path: Path) -> None:
    numbers = ("list", 9, struct.pack("<IQ", 4, 3) + b"\0" * 12)
    names = ("names", 9, struct.pack("<IQ", 8, 2) + text(b"a") + text(b"bc"))

    header = read(tmp_path, make(keys=[numbers, names, ARCHITECTURE]))

    assert header == Header(version=3, architecture="gpt2", tensors=1, keys=3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"GGU", "Truncated"),
        (make(magic=b"GGML"), "does not begin with `GGUF`"),
        (make(version=1), "Version 1"),
        (make(version=0x03000000), "Version"),
        (make(counts=(2**40, 1)), "tensors, at most"),
        (make(counts=(1, 2**63)), "keys, at most"),
        (make(keys=[]), "general.architecture"),
        (make(keys=[("general.architecture", 4, b"\0\0\0\0")]), "general.architecture"),
        (make(keys=[("x", 8, struct.pack("<Q", 2**62))]), "Truncated"),
        (make(keys=[("x", 9, struct.pack("<IQ", 4, 2**61))]), "Truncated"),
        (make(keys=[("x", 9, struct.pack("<IQ", 8, 2**61))]), "longer than the file"),
        (make(keys=[("x", 9, struct.pack("<IQ", 9, 1) * 8)]), "type of value 9"),
        (make(keys=[("x", 13, b"")]), "type of value 13"),
        (make(keys=[ARCHITECTURE, ("general.alignment", 4, struct.pack("<I", 0))]), "Alignment 0"),
        (make(keys=[ARCHITECTURE, ("general.alignment", 4, struct.pack("<I", 33))]), "Alignment 33"),
        (make(tensors=[(b"w" * 100, 1, 0)]), "name of 100 bytes"),
        (make(tensors=[(b"w", 9, 0)]), "9 dimensions"),
        (make(tensors=[(b"w", 1, 1)]), "not aligned"),
        (make(tensors=[(b"w", 1, 64)]), "Truncated"),
        (make(tensors=[(b"w", 1, 2**63)]), "Truncated"),
        (make(data=0), "Truncated"),
    ],
)
def test_what_is_wrong_is_a_load_error_that_says_so(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        read(tmp_path, content)


def test_every_truncation_is_a_load_error(tmp_path: Path) -> None:
    whole = make(data=32)
    for size in range(len(whole) - 32 + 1):
        with pytest.raises(LoadError):
            read(tmp_path, whole[:size])
