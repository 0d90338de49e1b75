"""Server-sent events, as they come in pieces."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["EventStream"]

LIMIT = 16 << 20
"""Bytes of one event."""


class EventStream:
    """Puts pieces together again and yields the data of each event."""

    def __init__(self) -> None:
        self._left = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Take a piece; yield the data of every event that it ends. ValueError for an event without end."""
        lines = (self._left + piece).split(b"\n")
        self._left = lines.pop()
        for line in lines:
            line = line.removesuffix(b"\r")
            if not line:
                if self._data:
                    yield b"\n".join(self._data)
                self._data, self._size = [], 0
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._size += len(line)
        if self._size + len(self._left) > LIMIT:
            raise ValueError(f"An event has more than {LIMIT >> 20} MiB")
