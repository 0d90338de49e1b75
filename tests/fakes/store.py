"""A blob store in memory."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from forge.core.digest import Digest, Pin
from forge.core.errors import MaterialError


class MemoryWriter:
    """Collects bytes until `commit`."""

    def __init__(self, blobs: dict[Digest, bytes]) -> None:
        self._blobs, self._buffer = blobs, bytearray()

    def write(self, chunk: bytes | memoryview, /) -> int:
        self._buffer += chunk
        return len(chunk)

    def commit(self, expected: Digest | None = None) -> Digest:
        digest = Digest.of(bytes(self._buffer))
        if expected is not None and digest != expected:
            raise MaterialError(f"Got {digest}, expected {expected}")
        self._blobs[digest] = bytes(self._buffer)
        return digest


class MemoryStore:
    """Blobs by digest; recipes are resolved when read."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.recipes: dict[Digest, tuple[bytes | Digest, ...]] = {}

    @contextmanager
    def writer(self) -> Iterator[MemoryWriter]:
        yield MemoryWriter(self.blobs)

    def put(self, data: bytes) -> Digest:
        digest = Digest.of(data)
        self.blobs[digest] = data
        return digest

    def put_recipe(self, digest: Digest, parts: Sequence[bytes | Digest]) -> None:
        self.recipes[digest] = tuple(parts)

    def open(self, digest: Digest) -> BinaryIO:
        return io.BytesIO(self.read(digest))

    def read(self, digest: Digest) -> bytes:
        if digest in self.recipes:
            parts = self.recipes[digest]
            return b"".join(part if isinstance(part, bytes) else self.read(part) for part in parts)
        return self.blobs[digest]

    def contains(self, digest: Pin) -> bool:
        return self.find(digest) is not None

    def expect(self, digests: Collection[Digest]) -> None:
        """Have everything here."""

    def find(self, pin: Pin) -> Digest | None:
        return next((each for each in (*self.blobs, *self.recipes) if each == pin or each.hash == str(pin)), None)
