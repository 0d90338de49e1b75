"""Gzip whose bytes depend on the content and this module's constants alone.

The input is cut into pieces of fixed size, each becomes a gzip member of its own (RFC 1952, 2.2: a file is a
series of members), so that all processors compress and the result does not depend on how many there are.
The compressor is libdeflate from one pinned wheel: zlib differs between builds of Python (zlib-ng).
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from forge.core.digest import Digest
from forge.core.errors import HostError

MEMBER: Final = 4 << 20
"""Bytes of input in a member."""
LEVEL: Final = 6
DEFLATE: Final = "0.9.0"
"""Version of the `deflate` wheel; another one may write other bytes."""
CODEC: Final = f"deflate-{DEFLATE}-{LEVEL}-{MEMBER}"
"""What the bytes follow from, for keys."""

_HEADER: Final = bytes.fromhex("1f8b08 00 00000000 00 ff")
"""No flags, no time, no hint on the level, unknown system: libdeflate's own would vary with the level."""


def compress(chunks: Iterable[bytes], write: Callable[[memoryview], object], *, workers: int = 0) -> Digest:
    """Write `chunks` compressed, in order and bounded memory; the digest of what went in."""
    workers = workers or min(8, os.cpu_count() or 1)
    plain, size = hashlib.sha256(), 0
    member = _compressor()
    pending: deque[Future[memoryview]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="gzip") as pool:
        for piece in _cut(chunks):
            pending.append(pool.submit(member, piece))
            plain.update(piece)
            size += len(piece)
            if len(pending) > workers + 1:
                write(pending.popleft().result())
        while pending:
            write(pending.popleft().result())
    return Digest(plain.hexdigest(), size)


def _compressor() -> Callable[[bytearray], memoryview]:
    import deflate  # a compiled module that most commands never need

    if deflate.__version__ != DEFLATE:
        hint = f"Install deflate=={DEFLATE}"
        raise HostError(f"`deflate` is {deflate.__version__}; layers are defined by {DEFLATE}", hint=hint)

    def member(piece: bytearray) -> memoryview:
        packed = deflate.gzip_compress(piece, LEVEL)
        packed[: len(_HEADER)] = _HEADER
        return memoryview(packed)

    return member


def _cut(chunks: Iterable[bytes]) -> Iterator[bytearray]:
    piece = bytearray()
    for chunk in chunks:
        view = memoryview(chunk)
        while len(piece) + len(view) >= MEMBER:
            rest = MEMBER - len(piece)
            piece += view[:rest]
            view = view[rest:]
            yield piece
            piece = bytearray()
        piece += view
    if piece:
        yield piece
