"""Model files that lie about themselves."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rules.actions import gguf_header, onnx_header, safetensors_header
from rules.actions.fault import BadFile
from tests.convert.sample import field, gguf, info, onnx, safetensors, text, whole_gguf, whole_safetensors

Read = Callable[[Path], object]


def write(folder: Path, content: bytes) -> Path:
    """Write a file to be read."""
    path = folder / "model.bin"
    path.write_bytes(content)
    return path


def one(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    """Make the header of one tensor."""
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def test_a_whole_safetensors_file_is_read(tmp_path: Path) -> None:
    tensors = safetensors_header.read_header(write(tmp_path, whole_safetensors()))

    assert [(each.name, each.shape, each.size) for each in tensors.values()] == [
        ("wte.weight", (2, 3), 24),
        ("wpe.weight", (4,), 8),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hi\n", "it has 3 bytes"),
        (b"Once upon a time there was a model\n", "no safetensors file"),
        ((2**63).to_bytes(8, "little") + b"{}", "header would have 9223372036854775808 bytes"),
        ((2).to_bytes(8, "little") + b"[]", "not an object"),
        ((2).to_bytes(8, "little") + b"{x", "not JSON"),
        ((100_000).to_bytes(8, "little") + b"[" * 100_000, "not JSON"),
        (b"\x25\0\0\0\0\0\0\0" + b'{"a": 1, "a": 2, "bbbbbbbbb": 3     }', "names `a` twice"),
        (safetensors({"a": 3}), "needs [dtype, shape, data_offsets]"),
        (safetensors(one(dtype="F31"), bytes(8)), "unknown type `F31`"),
        (safetensors(one(dtype="F64"), bytes(8)), "has 8 bytes, its type and shape make 16"),
        (safetensors(one(shape=[-2]), bytes(8)), "no shape that can be"),
        (safetensors(one(shape=[True, 2]), bytes(8)), "no shape that can be"),
        (safetensors(one(shape=[2**62, 2**62, 2**62]), bytes(8)), "its type and shape make"),
        (safetensors(one(shape=[1] * 99), bytes(8)), "no shape that can be"),
        (safetensors(one(offsets=[8, 0]), bytes(8)), "no offsets that can be"),
        (safetensors(one(offsets=[0, 8, 16]), bytes(8)), "no offsets that can be"),
        (safetensors(one(), bytes(7)), "cut off, or lies"),
        (safetensors(one(), bytes(9)), "1 bytes behind its last tensor"),
        (safetensors(one(offsets=[4, 12]), bytes(12)), "leaves 4 bytes to nobody"),
        (safetensors({**one(), "b": one(offsets=[4, 12])["a"]}, bytes(12)), "overlaps the one before"),
        (safetensors({"n" * 2000: one()["a"]}, bytes(8)), "name of 2000 characters"),
    ],
)
def test_a_lying_safetensors_header_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(BadFile) as caught:
        safetensors_header.read_header(write(tmp_path, content))

    assert words in str(caught.value)


def test_one_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(whole_safetensors())

    with pytest.raises(BadFile, match=r"`wte.weight` is in `a.safetensors` and in `b.safetensors`"):
        safetensors_header.read_folder(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")

    with pytest.raises(BadFile, match=r"no weights in `\*.safetensors`"):
        safetensors_header.read_folder(tmp_path)


def test_a_whole_gguf_file_is_read(tmp_path: Path) -> None:
    header = gguf_header.read_header(write(tmp_path, whole_gguf()))

    assert header.version == 3
    assert header.metadata == {"general.architecture": "gpt2", "gpt2.block_count": 2, "tokens": ("a", "b")}
    assert [(each.name, each.type, each.size) for each in header.tensors.values()] == [
        ("token_embd.weight", "Q8_0", 68),
        ("output_norm.weight", "F32", 32),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Once upon a time there was a model\n", "does not begin with `GGUF`"),
        (b"GGUF", "does not begin with `GGUF`"),
        (gguf(version=1), "GGUF version 1"),
        (gguf(count=2**62), "claims 4611686018427387904 tensors"),
        (gguf(key_count=2**62), "4611686018427387904 keys"),
        (gguf(key_count=1, keys=struct.pack("<Q", 2**63)), "a string of 9223372036854775808"),
        (gguf(key_count=1, keys=text("a") + struct.pack("<IIQ", 9, 8, 2**60)), "an array of 1152921504606846976"),
        (gguf(key_count=1, keys=text("a") + struct.pack("<IIQ", 9, 9, 1)), "unknown type 9"),
        (gguf(key_count=1, keys=text("a") + struct.pack("<I", 77)), "unknown type 77"),
        (gguf(key_count=2, keys=(text("a") + struct.pack("<II", 4, 1)) * 2), "the key `a` twice"),
        (gguf(key_count=1, keys=text("general.alignment") + struct.pack("<II", 4, 3)), "the alignment 3"),
        (gguf(key_count=1, keys=struct.pack("<Q", 1) + b"\xff" + bytes(40)), "not UTF-8"),
        (gguf(count=1, infos=info("a", (), 0, 0)), "has 0 dimensions"),
        (gguf(count=1, infos=info("a", (1,) * 5, 0, 0)), "has 5 dimensions"),
        (gguf(count=1, infos=info("a", (8,), 99, 0), data=bytes(32)), "unknown type 99"),
        (gguf(count=1, infos=info("a", (8,), 8, 0), data=bytes(32)), "needs rows in blocks of 32"),
        (gguf(count=1, infos=info("a", (0,), 0, 0), data=bytes(32)), "the shape (0,)"),
        (gguf(count=1, infos=info("a", (2**62, 2**62), 0, 0), data=bytes(32)), "behind the end of the file"),
        (gguf(count=1, infos=info("a", (8,), 0, 4), data=bytes(64)), "not on a multiple of 32"),
        (gguf(count=1, infos=info("a", (8,), 0, 0), data=bytes(31)), "behind the end of the file"),
        (gguf(count=2, infos=info("a", (8,), 0, 0) * 2, data=bytes(32)), "is there twice"),
        (
            gguf(count=2, infos=info("a", (16,), 0, 0) + info("b", (8,), 0, 32), data=bytes(64)),
            "`b` of `model.bin` overlaps",
        ),
    ],
)
def test_a_lying_gguf_header_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(BadFile) as caught:
        gguf_header.read_header(write(tmp_path, content))

    assert words in str(caught.value)


def test_a_whole_onnx_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"")
    header = onnx_header.read_header(write(tmp_path, onnx(location="weights.bin", nested=2)))

    assert header == onnx_header.Header(10, 3, frozenset(("Add", "If")), frozenset(("weights.bin",)))


@pytest.mark.parametrize("nested", [0, 3])
@pytest.mark.parametrize(
    "location",
    ["../../etc/shadow", "/etc/shadow", "a/../../x", "..", ".", "link", "loop", "gone.bin", "a\0b", "n" * 999],
)
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str, nested: int) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(BadFile, match=r"keeps weights in"):
        onnx_header.read_header(write(tmp_path, onnx(location=location, nested=nested)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"Once upon a time there was a model\n", "no ONNX file"),
        (b"\x08\x0a\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "ends behind its message"),
        (b"\x08" + b"\xff" * 40, "a number does not end"),
        (field(1, 10) + field(7, 3), "field 7 is no message"),
        (field(1, 10), "no version and no graph"),
        (onnx(nested=200), "nests its graphs deeper than 32"),
        (field(1, 10) + field(7, field(1, field(4, "x" * 5000))), "too long"),
    ],
)
def test_a_lying_onnx_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(BadFile) as caught:
        onnx_header.read_header(write(tmp_path, content))

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("read", "whole"),
    [
        (safetensors_header.read_header, whole_safetensors()),
        (gguf_header.read_header, whole_gguf()),
        (onnx_header.read_header, onnx(location="w", nested=1)),
    ],
    ids=["safetensors", "gguf", "onnx"],
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_file_is_read_or_refused(tmp_path: Path, read: Read, whole: bytes, data: st.DataObject) -> None:
    """Never anything but an answer or BadFile, whatever the bytes."""
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(min_size=1, max_size=9))
    cut = data.draw(st.integers(0, len(content)))

    with suppress(BadFile):
        read(write(tmp_path, bytes(content[:cut])))
