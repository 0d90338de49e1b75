"""A remote cache as the executor sees it: results by the keys of actions, content by digest, elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import BinaryIO, Protocol

from forge.core.digest import Digest

Opener = Callable[[Digest], BinaryIO]
"""Opens a blob for reading, any number of times."""


class RemoteError(Exception):
    """A remote cache gave no answer, or none that can be used; the text says why, without credentials."""


class RemoteRefused(RemoteError):
    """It answers, and lets this client do no such thing: to write, as a rule."""


class RemoteCache(Protocol):
    """One remote cache, safe to share between threads. What it gives is not verified: who takes it does that.

    Each call raises RemoteError after attempts of its own.
    """

    @property
    def name(self) -> str:
        """Its address, without credentials."""

    @property
    def batch(self) -> int:
        """Bytes of blobs that one call reads or writes at most; 0 where each is asked for, read and written alone."""

    def result(self, key: Digest) -> bytes | None:
        """Ask for the ActionResult message of an Action; None where there is none."""

    def put_result(self, key: Digest, message: bytes) -> None:
        """Keep an ActionResult; what it names must be there before."""

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Tell which of some blobs are not there."""

    def read(self, digest: Digest) -> Iterator[bytes]:
        """Read a blob as it comes; KeyError where it is not there."""

    def read_batch(self, digests: Sequence[Digest]) -> dict[Digest, bytes]:
        """Read blobs of at most `batch` bytes together; those that are not there are left out."""

    def write(self, digests: Sequence[Digest], opener: Opener) -> None:
        """Write blobs: one of any size, or several of at most `batch` bytes together."""

    def close(self) -> None:
        """Close its connections."""


def grouped(digests: Collection[Digest], limit: int) -> list[list[Digest]]:
    """Divide blobs into calls: small ones together, at most `limit` bytes of them, others alone, largest first."""
    groups: list[list[Digest]] = []
    room = 0
    for digest in sorted(digests, key=lambda each: (-each.size, each.hash)):
        cost = digest.size + _OVERHEAD
        if cost > room:
            groups.append([])
            room = limit
        groups[-1].append(digest)
        room -= cost
    return groups


_OVERHEAD = 256
"""Bytes of a message beside each blob: digest, status, lengths."""
