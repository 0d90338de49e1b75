"""A remote cache in memory, and its faults."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from forge.core.digest import Digest
from forge.core.remote import Opener, RemoteError, RemoteRefused


class MemoryRemote:
    """Blobs and results by hash; both are there for tests to spoil."""

    name = "memory://"

    def __init__(self, *, batch: int = 300) -> None:
        self.batch = batch
        self.blobs: dict[str, bytes] = {}
        self.results: dict[str, bytes] = {}
        self.read_only = False
        self.dead = False
        self.calls: list[str] = []
        self.before: Callable[[str], None] = lambda call: None
        """Called before each call, with its name."""
        self.is_closed = False

    def result(self, key: Digest) -> bytes | None:
        self._enter("result")
        return self.results.get(key.hash)

    def put_result(self, key: Digest, message: bytes) -> None:
        self._enter("put_result", writes=True)
        self.results[key.hash] = message

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        self._enter("missing")
        return {each for each in digests if each.hash not in self.blobs}

    def read(self, digest: Digest) -> Iterator[bytes]:
        self._enter("read")
        data = self.blobs[digest.hash]
        yield data[:3]
        yield data[3:]

    def read_batch(self, digests: Sequence[Digest]) -> dict[Digest, bytes]:
        self._enter("read_batch")
        return {each: self.blobs[each.hash] for each in digests if each.hash in self.blobs}

    def write(self, digests: Sequence[Digest], opener: Opener) -> None:
        self._enter("write", writes=True)
        for digest in digests:
            with opener(digest) as file:
                self.blobs[digest.hash] = file.read()

    def close(self) -> None:
        self.is_closed = True

    def _enter(self, call: str, *, writes: bool = False) -> None:
        self.calls.append(call)
        self.before(call)
        if self.dead:
            raise RemoteError("Nobody answers")
        if writes and self.read_only:
            raise RemoteRefused("Read only")
