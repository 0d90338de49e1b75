"""The header of a GGUF file, judged before a library that trusts it sees it.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every count and length is checked against
what is left of the file, so that a damaged one is a message and neither an allocation of terabytes nor a crash.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from forge_runtime.error import LoadError

__all__ = ["ChatFields", "Header", "read_chat_fields", "read_header"]

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
MAX_TENSORS: Final = 2**16
MAX_KEYS: Final = 2**16
MAX_KEY: Final = 2**16
MAX_NAME: Final = 64
MAX_DIMENSIONS: Final = 4
MAX_DEPTH: Final = 2
DEFAULT_ALIGNMENT: Final = 32
MAX_TEMPLATE: Final = 2**18
MAX_TOKEN: Final = 256

SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
UINT32: Final = 4
BOOL: Final = 7
STRING: Final = 8
ARRAY: Final = 9

TEMPLATE: Final = "tokenizer.chat_template"
TOKENS: Final = "tokenizer.ggml.tokens"
TOKENIZER: Final = "tokenizer.ggml.model"
SPLIT: Final = "tokenizer.ggml.pre"
ADDS_BOS: Final = "tokenizer.ggml.add_bos_token"
TOKEN_IDS: Final = {name: f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos")}
WANTED: Final = frozenset({TEMPLATE, TOKENS, TOKENIZER, SPLIT, ADDS_BOS, *TOKEN_IDS.values()})
BOS_SPLITS: Final = frozenset(
    {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken", "chameleon"}
)
"""Pre-tokenizers of byte-pair vocabularies that llama.cpp adds a BOS token to where a file does not say."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    version: int
    architecture: str
    tensors: int
    keys: int


@dataclass(frozen=True, slots=True)
class ChatFields:
    """What a file says of conversations."""

    template: str | None
    """In Jinja's language."""
    bos_token: str = ""
    eos_token: str = ""
    adds_bos: bool = False
    """Whether llama.cpp puts a BOS token before every text."""


def read_header(path: Path) -> Header:
    """Read the header; raise LoadError for what is no whole GGUF file."""
    return _read(path, lambda reader: reader.header())


def read_chat_fields(path: Path) -> ChatFields:
    """Read what a conversation needs; raise LoadError as `read_header` does, and for a template without measure."""
    return _read(path, lambda reader: reader.chat_fields())


def _read(path: Path, take: Callable[[_Reader], Value]) -> Value:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return take(_Reader(data))
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise LoadError(f"{path}: Not a GGUF file that can be served: {error}") from error


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._size = len(data)
        self._at = 0
        self._places: dict[str, tuple[int, int]] = {}
        """Key -> the type of its value, and where that begins."""

    def header(self) -> Header:
        if self._bytes(4) != MAGIC:
            raise ValueError("It does not begin with `GGUF`")
        version = self._number(4)
        if version not in VERSIONS:
            raise ValueError(f"Version {version}, expected one of {list(VERSIONS)}")
        tensors = self._count(MAX_TENSORS, "tensors")
        keys = self._count(MAX_KEYS, "keys")
        architecture, alignment = "", DEFAULT_ALIGNMENT
        for _ in range(keys):
            key = self._text(MAX_KEY)
            kind, start = self._number(4), self._at
            self._skip_value(kind)
            if key in WANTED:
                self._places[key] = kind, start
            if key == "general.architecture" and kind == STRING:
                architecture = self._data[start + 8 : self._at].decode("utf-8", "replace")
            if key == "general.alignment" and kind == UINT32:
                (alignment,) = struct.unpack_from("<I", self._data, start)
        if not architecture:
            raise ValueError("It names no `general.architecture`")
        if alignment <= 0 or alignment & (alignment - 1):
            raise ValueError(f"Alignment {alignment} is no power of two")
        self._tensors(tensors, alignment)
        return Header(version, architecture, tensors, keys)

    def chat_fields(self) -> ChatFields:
        self.header()
        template = self._string(TEMPLATE, MAX_TEMPLATE)
        adds_bos = bool(self._bytes(1)[0]) if self._find(ADDS_BOS, BOOL) else self._adds_bos_untold()
        return ChatFields(template, self._token("bos"), self._token("eos"), adds_bos)

    def _adds_bos_untold(self) -> bool:
        tokenizer = self._string(TOKENIZER, MAX_NAME)
        return tokenizer == "llama" or (tokenizer == "gpt2" and self._string(SPLIT, MAX_NAME) in BOS_SPLITS)

    def _find(self, key: str, kind: int) -> bool:
        """Go to where the value of a key begins."""
        found, start = self._places.get(key, (kind, -1))
        if found != kind:
            raise ValueError(f"`{key}` is of type {found}, not {kind}")
        if start >= 0:
            self._at = start
        return start >= 0

    def _string(self, key: str, limit: int) -> str | None:
        if not self._find(key, STRING):
            return None
        size = self._number(8)
        if size > limit:
            raise ValueError(f"`{key}` has {size} bytes, at most {limit} are read")
        return self._bytes(size).decode("utf-8")

    def _token(self, name: str) -> str:
        """Return the text of a special token; empty where the file has none."""
        if not self._find(TOKEN_IDS[name], UINT32):
            return ""
        number = self._number(4)
        if not self._find(TOKENS, ARRAY):
            return ""
        inner, count = self._number(4), self._number(8)
        if inner != STRING or number >= count:
            return ""
        for _ in range(number):
            self._skip(self._number(8))
        return self._text(MAX_TOKEN)

    def _tensors(self, count: int, alignment: int) -> None:
        furthest, name = -1, ""
        for _ in range(count):
            found = self._text(MAX_NAME)
            dimensions = self._number(4)
            if dimensions > MAX_DIMENSIONS:
                raise ValueError(f"Tensor {found[:80]!a} has {dimensions} dimensions")
            self._skip(8 * dimensions + 4)
            offset = self._number(8)
            if offset % alignment:
                raise ValueError(f"Tensor {found[:80]!a} is not aligned")
            if offset > furthest:
                furthest, name = offset, found
        start = -(-self._at // alignment) * alignment
        if count and start + furthest >= self._size:
            raise ValueError(f"Truncated: {self._size} bytes, but tensor {name[:80]!a} begins at {start + furthest}")

    def _skip_value(self, kind: int, depth: int = 0) -> None:
        if kind in SIZES:
            self._skip(SIZES[kind])
        elif kind == STRING:
            self._skip(self._number(8))
        elif kind == ARRAY and depth < MAX_DEPTH:
            inner, count = self._number(4), self._number(8)
            if inner in SIZES:
                self._skip(SIZES[inner] * count)
                return
            if count > self._size - self._at:  # each is a byte or more
                raise ValueError(f"An array of {count} values is longer than the file")
            for _ in range(count):
                self._skip_value(inner, depth + 1)
        else:
            raise ValueError(f"Unknown type of value {kind}")

    def _count(self, limit: int, what: str) -> int:
        value = self._number(8)
        if value > limit:
            raise ValueError(f"{value} {what}, at most {limit} are read")
        return value

    def _text(self, limit: int) -> str:
        size = self._number(8)
        if size > limit:
            raise ValueError(f"A name of {size} bytes")
        return self._bytes(size).decode("utf-8", "replace")

    def _number(self, size: int) -> int:
        return int.from_bytes(self._bytes(size), "little")

    def _bytes(self, size: int) -> bytes:
        start = self._at
        self._skip(size)
        return self._data[start : self._at]

    def _skip(self, size: int) -> None:
        if size > self._size - self._at:
            raise ValueError(f"Truncated at {self._size} bytes")
        self._at += size
