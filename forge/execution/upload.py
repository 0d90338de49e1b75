"""Results on their way to the remote cache, in the background; blobs first: no result names what is not there."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from forge.core.action import ActionKey
from forge.core.digest import Digest
from forge.core.errors import ForgeError
from forge.core.remote import RemoteCache, grouped
from forge.core.tool import Content, FileContent
from forge.core.tree import Tree
from forge.execution.breaker import Breaker
from forge.execution.origin import STREAMS, RemoteOrigin
from forge.execution.store import LocalStore

_ROUND: Final = 100
"""Results whose blobs are asked about together."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What goes up together; a result where it has one, after all else."""

    blobs: tuple[Digest, ...] = ()
    """Files, and Tree messages, all of whose files go up too."""
    trees: tuple[Digest, ...] = ()
    key: ActionKey | None = None
    result: bytes = b""
    if_absent: bool = False
    """Only where the remote cache has no result of that key."""


@dataclass(slots=True)
class Uploads:
    """Takes parcels and sends them; what is not sent when the process ends is lost to others only."""

    store: LocalStore
    breaker: Breaker
    origin: RemoteOrigin
    progress: Callable[[int, int], None]
    """Gets bytes that are sent and bytes that are to be."""
    sent: int = 0
    """Bytes that were sent."""
    results: int = 0
    """Results that were taken."""
    _total: int = 0
    _known: set[Digest] = field(default_factory=set)
    _pending: list[Parcel] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None
    _ended: bool = False
    _stopped: bool = False

    def add(self, parcel: Parcel) -> None:
        """Send something, some time."""
        if self.breaker.is_open or self.breaker.is_refused:
            return
        with self._changed:
            self._pending.append(parcel)
            if self._thread is None:
                self._ended = False
                self._thread = threading.Thread(target=self._work, name="remote-upload", daemon=True)
                self._thread.start()
            self._changed.notify()

    def finish(self) -> None:
        """Wait until all is sent, or is known not to be taken."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._ended = True
            self._changed.notify()
        if thread is not None:
            self.progress(self.sent, self._total)
            thread.join()
            self.progress(self._total, self._total)

    def stop(self) -> None:
        """Send no more."""
        with self._changed:
            self._stopped = True
            self._pending.clear()
            self._ended = True
            self._changed.notify()

    def _work(self) -> None:
        with ThreadPoolExecutor(STREAMS, "remote-write") as pool:
            while True:
                with self._changed:
                    while not self._pending and not self._ended:
                        self._changed.wait()
                    parcels, self._pending = self._pending[:_ROUND], self._pending[_ROUND:]
                if not parcels:
                    return
                try:
                    self._send(parcels, pool)
                except (
                    ForgeError,
                    OSError,
                ) as error:  # the disk's fault: the build itself meets it too, or does not care
                    self.breaker.give_up(f"gets nothing more from here: {error}")

    def _send(self, parcels: list[Parcel], pool: ThreadPoolExecutor) -> None:
        parcels = [each for each, wanted in zip(parcels, pool.map(self._is_wanted, parcels), strict=True) if wanted]
        needs = [self._needs(parcel) for parcel in parcels]
        texts: dict[Digest, bytes] = {}
        for parcel in parcels:
            if parcel.key is not None:
                for text in (parcel.key.action, parcel.key.command):
                    texts[Digest.of(text)] = text
        wanted = {digest for need in needs for digest in need} | texts.keys()
        wanted = {digest for digest in wanted if digest not in self._known and not self.origin.promises(digest)}
        missing = self.breaker.ask(lambda cache: cache.missing(wanted), set(wanted)) if wanted else set()
        # It may say that it has what it could not give.
        missing |= {digest for digest in wanted if bytes.fromhex(digest.hash) in self.origin.bad}
        failed = self._write(missing, texts, pool)
        self._known |= wanted - failed
        whole = [parcel for parcel, need in zip(parcels, needs, strict=True) if need and failed.isdisjoint(need)]
        self.results += sum(pool.map(self._put, whole))

    def _is_wanted(self, parcel: Parcel) -> bool:
        key = parcel.key
        if not parcel.if_absent or key is None:
            return True
        return self.breaker.ask(lambda cache: cache.result(key.digest) is None, False)

    def _needs(self, parcel: Parcel) -> Collection[Digest]:
        """List all blobs of a parcel; nothing where some are gone from here."""
        found = {*parcel.blobs, *parcel.trees}
        try:
            for tree in parcel.trees:
                found.update(file.digest for _, file in Tree.decode(self.store.read(tree)).files())
        except (KeyError, ValueError):
            return ()
        return found

    def _write(self, missing: set[Digest], texts: Mapping[Digest, bytes], pool: ThreadPoolExecutor) -> set[Digest]:
        """Write blobs; those that were not taken."""

        def opener(digest: Digest) -> BinaryIO:
            text = texts.get(digest)
            return io.BytesIO(text) if text is not None else self.store.open(digest)

        def write(group: list[Digest]) -> bool:
            try:
                taken = not self._stopped and self.breaker.give(lambda cache: cache.write(group, opener))
            except KeyError:  # it has gone from the store meanwhile
                taken = False
            with self._changed:
                self.sent += sum(digest.size for digest in group) if taken else 0
                self.progress(self.sent, self._total)
            return taken

        if not missing:
            return set()
        groups = grouped(missing, self.breaker.ask(_batch, 0))
        with self._changed:
            self._total += sum(digest.size for digest in missing)
        outcomes = zip(groups, pool.map(write, groups), strict=True)
        return {digest for group, taken in outcomes if not taken for digest in group}

    def _put(self, parcel: Parcel) -> bool:
        key, result = parcel.key, parcel.result
        if key is None or self._stopped:
            return False
        return self.breaker.give(lambda cache: cache.put_result(key.digest, result))


def parcel_of(key: ActionKey, result: bytes, outputs: Mapping[str, Content], *, if_absent: bool) -> Parcel:
    """Wrap a result with all that it names."""
    blobs = tuple(each.digest for each in outputs.values() if isinstance(each, FileContent))
    trees = tuple(each.tree for each in outputs.values() if not isinstance(each, FileContent))
    return Parcel(blobs, trees, key, result, if_absent)


def _batch(cache: RemoteCache) -> int:
    return cache.batch
