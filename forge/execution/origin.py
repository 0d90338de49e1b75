"""Blobs that a remote cache has and this machine has not yet: promised by it, brought when somebody reads them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.remote import RemoteCache, RemoteError, grouped
from forge.execution.breaker import Breaker
from forge.execution.store import LocalStore

STREAMS: Final = 8
"""Transfers at a time."""
_LOCKS: Final = 64


class RemoteOrigin:
    """The remote cache as the place that the store's missing blobs come from; safe to share between threads."""

    def __init__(self, store: LocalStore, breaker: Breaker, progress: Callable[[int, int], None]) -> None:
        self._store, self._breaker, self._progress = store, breaker, progress
        self._promised: set[bytes] = set()
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._lock = threading.Lock()
        self.bad: set[bytes] = set()
        """What it did not give, or not rightly: it is not believed to have that, whatever it says."""
        self.brought = 0
        """Bytes that came."""

    def promises(self, digest: Digest) -> bool:
        """Say whether the remote cache is known to have a blob."""
        return bytes.fromhex(digest.hash) in self._promised and not self._breaker.is_open

    def promised(self, hashes: set[bytes]) -> set[bytes]:
        """Tell which of some hashes are those of blobs that the remote cache is known to have."""
        return set() if self._breaker.is_open else hashes & self._promised

    def promise(self, digests: Iterable[Digest]) -> None:
        """Take note of what the remote cache has."""
        found = {bytes.fromhex(digest.hash) for digest in digests}
        with self._lock:
            self._promised |= found - self.bad

    def lacks(self, digests: Collection[Digest], *, ask: bool) -> set[Digest]:
        """Tell which of some blobs are neither here nor there.

        Unless it can be asked about many at once, or has to be because of a broken promise, the remote cache is
        believed to have what its results name, until somebody reads it.
        """
        unknown = [each for each in set(digests) if not self.promises(each) and not self._store.holds(each)]
        bad = {each for each in unknown if bytes.fromhex(each.hash) in self.bad}
        if bad or not unknown or not (ask or self.bad):
            return bad
        return self._breaker.ask(lambda cache: cache.missing(unknown), set(unknown))

    def bring(self, digest: Digest) -> bool:
        """Put a blob into the store; False where the remote cache does not give it, whole and right."""
        with self._locks[int(digest.hash[:2], 16) % _LOCKS]:
            if self._store.is_sound(digest):  # another thread was waiting for it too
                return True
            try:
                found = self._breaker.ask(lambda cache: self._take(cache, digest), False)
            except KeyError:
                found = False
            if not found:
                self._break(digest)
            return found

    def bring_all(self, digests: Collection[Digest]) -> None:
        """Put blobs into the store, small ones together and several at a time; what does not come is left out."""
        wanted = [digest for digest in set(digests) if self.promises(digest)]
        if len(wanted) < 2:
            return
        groups = grouped(wanted, self._breaker.ask(lambda cache: cache.batch, 0))
        total, done = sum(digest.size for digest in wanted), 0
        with ThreadPoolExecutor(min(STREAMS, len(groups)), "remote-read") as pool:
            for size in pool.map(self._bring_group, groups):
                done += size
                self._progress(done, total)

    def _bring_group(self, group: list[Digest]) -> int:
        if len(group) == 1:
            self.bring(group[0])
            return group[0].size
        nothing: dict[Digest, bytes] = {}
        found = self._breaker.ask(lambda cache: cache.read_batch(group), nothing)
        for digest in group:
            data = found.get(digest)
            if data is not None and Digest.of(data) == digest:
                self._store.put(data)
                self._count(digest.size)
            elif data is not None:
                self._lied(digest)
        return sum(digest.size for digest in group)

    def _take(self, cache: RemoteCache, digest: Digest) -> bool:
        size = 0
        with self._store.writer() as writer:
            for chunk in cache.read(digest):
                size += len(chunk)
                if size > digest.size:
                    break
                writer.write(chunk)
            try:
                if size < digest.size:
                    raise RemoteError(f"`{digest.short}` ends after {size} of {digest.size} bytes")
                writer.commit(digest)
            except MaterialError:
                self._lied(digest)
                return False
        self._count(size)
        return True

    def _lied(self, digest: Digest) -> None:
        self._breaker.tell("lies", f"gave other bytes than those of `{digest.short}`: they are thrown away")

    def _count(self, size: int) -> None:
        with self._lock:
            self.brought += size

    def _break(self, digest: Digest) -> None:
        """Believe nothing of what was promised: what is still wanted is asked about again."""
        name = bytes.fromhex(digest.hash)
        with self._lock:
            self.bad.add(name)
            if name in self._promised:
                self._promised.clear()
