"""Recipes: blobs that are other blobs and literal bytes, one after another, so that nothing is kept twice."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from forge.core.digest import Digest


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a blob is put together."""

    size: int
    parts: tuple[bytes | Digest, ...]

    def encode(self) -> bytes:
        """Write it down behind a checksum: its literal bytes are content that nothing else verifies."""
        rows = [
            {"digest": str(part)} if isinstance(part, Digest) else {"data": base64.b64encode(part).decode()}
            for part in self.parts
        ]
        body = json.dumps({"size": self.size, "parts": rows}).encode()
        return hashlib.sha256(body).digest() + body

    @classmethod
    def decode(cls, data: bytes) -> Recipe:
        """Read what `encode` wrote; ValueError when it is something else."""
        body = data[32:]
        if hashlib.sha256(body).digest() != data[:32]:
            raise ValueError("Recipe is damaged")
        table = json.loads(body)
        rows = table["parts"]
        parts = [Digest.parse(row["digest"]) if "digest" in row else base64.b64decode(row["data"]) for row in rows]
        return cls(table["size"], tuple(parts))

    def blobs(self) -> list[Digest]:
        """List the blobs that it needs."""
        return [part for part in self.parts if isinstance(part, Digest)]


class Concatenation(io.RawIOBase):
    """Reads the parts of a recipe one after another."""

    def __init__(self, parts: Sequence[bytes | Digest], opener: Callable[[Digest], BinaryIO]) -> None:
        self._parts, self._opener = list(parts), opener
        self._current: BinaryIO | None = None

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Fill some of `buffer`; 0 at the end."""
        while True:
            if self._current is None:
                if not self._parts:
                    return 0
                part = self._parts.pop(0)
                self._current = io.BytesIO(part) if isinstance(part, bytes) else self._opener(part)
            data = self._current.read(len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
            self._current.close()
            self._current = None

    def close(self) -> None:
        """Close the part that is open."""
        if self._current is not None:
            self._current.close()
        super().close()
