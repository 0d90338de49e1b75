"""Where bytes are kept, as the libraries see it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from forge.core.digest import Digest, Pin


class BlobWriter(Protocol):
    """Bytes on their way into a store; nobody sees them before `commit`."""

    def write(self, chunk: bytes | memoryview, /) -> int:
        """Append `chunk`; its length."""

    def commit(self, expected: Digest | None = None) -> Digest:
        """Make the bytes visible; MaterialError, and nothing kept, when they are not `expected`."""


class BlobStore(Protocol):
    """Content by digest. Readers get verified bytes or an error, never wrong bytes in silence."""

    def writer(self) -> AbstractContextManager[BlobWriter]:
        """Open a writer; leaving the block without `commit` drops what was written."""

    def put(self, data: bytes) -> Digest:
        """Keep `data`."""

    def put_recipe(self, digest: Digest, parts: Sequence[bytes | Digest]) -> None:
        """Keep a blob as the concatenation of literal bytes and other blobs, without a second copy."""

    def open(self, digest: Digest) -> BinaryIO:
        """Open for reading; KeyError when it is not here."""

    def read(self, digest: Digest) -> bytes:
        """Read it whole; KeyError when it is not here."""

    def contains(self, digest: Digest) -> bool:
        """Say whether `open` would find it."""

    def find(self, pin: Pin) -> Digest | None:
        """Name the blob that `pin` means; None when it is not here."""

    def expect(self, digests: Collection[Digest]) -> None:
        """Say that blobs will be read soon, so that those which are elsewhere come together."""


class Origin(Protocol):
    """Where else blobs are, and are brought from when somebody reads them."""

    def promises(self, digest: Digest) -> bool:
        """Say whether it is known to have a blob."""

    def promised(self, hashes: set[bytes]) -> set[bytes]:
        """Tell which of some hashes, in binary, are those of blobs that it is known to have."""

    def bring(self, digest: Digest) -> bool:
        """Put a blob into the store; False where it cannot."""

    def bring_all(self, digests: Collection[Digest]) -> None:
        """Put blobs into the store, as many as it can."""
