"""The header of a GGUF file, judged before the library."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from forge_runtime import LoadError
from forge_runtime.gguf import ChatFields, Header, read_chat_fields, read_header

ARCHITECTURE = ("general.architecture", 8, struct.pack("<Q", 4) + b"gpt2")


def string(value: bytes) -> bytes:
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
        head += string(name.encode()) + struct.pack("<I", kind) + value
    for name_, dimensions, offset in tensors:
        head += string(name_) + struct.pack("<I", dimensions) + b"\1\0\0\0\0\0\0\0" * dimensions
        head += struct.pack("<IQ", 0, offset)
    return head + b"\0" * (-len(head) % 32) + b"\0" * data


def read(tmp_path: Path, content: bytes) -> Header:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    return read_header(path)


def test_a_whole_header_is_read(tmp_path: Path) -> None:
    numbers = ("list", 9, struct.pack("<IQ", 4, 3) + b"\0" * 12)
    names = ("names", 9, struct.pack("<IQ", 8, 2) + string(b"a") + string(b"bc"))

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


TOKENS = ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 3) + string(b"x") + string(b"<s>") + string(b"</s>"))
TEMPLATE = ("tokenizer.chat_template", 8, string("{{ messages }} é".encode()))


def number(name: str, value: int) -> tuple[str, int, bytes]:
    return f"tokenizer.ggml.{name}", 4, struct.pack("<I", value)


def word(name: str, value: bytes) -> tuple[str, int, bytes]:
    return f"tokenizer.ggml.{name}", 8, string(value)


def flag(value: bytes) -> tuple[str, int, bytes]:
    return "tokenizer.ggml.add_bos_token", 7, value


def read_chat(tmp_path: Path, *keys: tuple[str, int, bytes]) -> ChatFields:
    path = tmp_path / "model.gguf"
    path.write_bytes(make(keys=[*keys, ARCHITECTURE]))
    return read_chat_fields(path)


@pytest.mark.parametrize(
    ("keys", "fields"),
    [
        ([], ChatFields(None)),
        ([TEMPLATE], ChatFields("{{ messages }} é")),
        ([number("bos_token_id", 1), TOKENS, number("eos_token_id", 2)], ChatFields(None, "<s>", "</s>")),
        ([TOKENS, number("bos_token_id", 3)], ChatFields(None)),
        ([number("bos_token_id", 0)], ChatFields(None)),
        (
            [("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 4, 1) + b"four"), number("bos_token_id", 0)],
            ChatFields(None),
        ),
        ([flag(b"\1")], ChatFields(None, adds_bos=True)),
        ([word("model", b"llama")], ChatFields(None, adds_bos=True)),
        ([word("model", b"llama"), flag(b"\0")], ChatFields(None)),
        ([word("model", b"gpt2"), word("pre", b"llama-bpe")], ChatFields(None, adds_bos=True)),
        ([word("model", b"gpt2"), word("pre", b"qwen2")], ChatFields(None)),
        ([word("model", b"gpt2")], ChatFields(None)),
    ],
    ids=[
        *("nothing", "template", "tokens", "no such token", "no tokens", "tokens of numbers"),
        *("flag", "sentencepiece", "flag first", "llama 3", "qwen", "gpt-2"),
    ],
)
def test_what_a_conversation_needs_is_read(
    tmp_path: Path, keys: list[tuple[str, int, bytes]], fields: ChatFields
) -> None:
    assert fields == read_chat(tmp_path, *keys)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (("tokenizer.chat_template", 4, b"four"), "`tokenizer.chat_template` is of type 4, not 8"),
        (("tokenizer.chat_template", 8, string(b"x" * (2**18 + 1))), "262145 bytes, at most 262144"),
        (("tokenizer.chat_template", 8, string(b"\xff")), "utf-8"),
        (("tokenizer.ggml.bos_token_id", 8, string(b"1")), "of type 8, not 4"),
        (("tokenizer.ggml.add_bos_token", 0, b"\1"), "of type 0, not 7"),
        (("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 1) + string(b"x" * 257)), "257 bytes"),
        (("tokenizer.ggml.model", 8, string(b"x" * 65)), "65 bytes"),
    ],
)
def test_what_is_wrong_for_conversations_is_a_load_error(
    tmp_path: Path, key: tuple[str, int, bytes], reason: str
) -> None:
    keys = [key] if key[0].endswith("bos_token_id") else [number("bos_token_id", 0), key]
    with pytest.raises(LoadError, match=reason):
        read_chat(tmp_path, *keys)


def test_every_truncation_is_a_load_error(tmp_path: Path) -> None:
    whole = make(data=32)
    for size in range(len(whole) - 32 + 1):
        with pytest.raises(LoadError):
            read(tmp_path, whole[:size])
