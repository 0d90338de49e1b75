"""What is no HTTP: headers, and what comes behind them. None is followed by a body that is whole."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

__all__ = ["FRAMES", "LONG_TARGET"]

LONG_TARGET = b"long target"
CHUNKED = b"transfer-encoding: chunked\r\n"
BAD_LENGTHS = (b"-1", b"x", b"1e3", b"+5", b"0x10", b"5, 6", b"9" * 30, b"1 2", b"\xb2", b"5\r\ncontent-length: 6")
BAD_CHUNKS = (b"zz\r\n", b"-5\r\n", b"F" * 21 + b"\r\n", b"5\r\nabcdeXX", b"0x5\r\nabcde\r\n", b"\r\n\r\n", b"5 5\r\n")
BAD_HEADERS = (
    *(b"a b: c\r\n", b": c\r\n", b"a\r\n", b"a: \0\r\n", b"a: b\rc\r\n", b"\x80: b\r\n", b" folded: first\r\n"),
    *(b"transfer-encoding: gzip\r\n", b"transfer-encoding: chunked, chunked\r\n", b"a: " + b"b" * 70_000 + b"\r\n"),
    *(CHUNKED + b"content-length: 5\r\n", b"host: second\r\n", b"".join(b"a%d: b\r\n" % n for n in range(300))),
)
BAD_VERSIONS = (b"HTTP/2.0\r\n", b"HTTP/9.9\r\n", b"HTTP/1.0\r\n" + CHUNKED, b"HTTP/x\r\n", b"HTTP/1.1 \0\r\n")

FRAMES: Sequence[Callable[[random.Random], tuple[bytes, bytes]]] = [
    lambda draw: (b"content-length: " + draw.choice(BAD_LENGTHS) + b"\r\n", b"{}"),
    lambda draw: (CHUNKED, draw.choice(BAD_CHUNKS)),
    lambda draw: (draw.choice(BAD_HEADERS), b""),
    lambda draw: (draw.choice(BAD_VERSIONS), b""),
    lambda draw: (b"", LONG_TARGET),
]
