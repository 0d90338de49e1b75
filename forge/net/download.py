"""Downloading: an address's bytes into a store, resumed where they broke off and verified before anyone sees them.

A connection that breaks, a 5xx or a 429 is tried again, waiting longer each time; what came so far is kept and
the rest asked for with `Range` (RFC 9110 section 14). As all bytes are verified by digest in the end, a partial
file may be continued from another place than the one that began it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from forge.core.blob import BlobStore, BlobWriter
from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.net.address import is_remote, local_path
from forge.net.connection import ANONYMOUS, Broken, Connection, Login, Missing, Unavailable
from forge.net.partial import Partial, open_partial
from forge.net.patience import Patience

if TYPE_CHECKING:
    import httpx2

_CHUNK = 1 << 18
_MAX_PAGE = 256 << 20
_IDENTITY = {"Accept-Encoding": "identity"}


class _Restart(Exception):
    """The server will not continue: begin at the first byte."""


class _Wrong(Exception):
    """The bytes cannot be the expected ones."""


@dataclass(frozen=True, slots=True)
class Page:
    """A small body, read whole."""

    data: bytes
    content_type: str
    address: str
    """After redirects: what relative links are relative to."""
    next: str = ""
    """Address of the next page, where a long answer comes in several (RFC 8288)."""


class Downloader:
    """Brings bytes from addresses, patiently; safe to share between threads."""

    def __init__(
        self,
        partial: Path | None = None,
        *,
        connection: Connection | None = None,
        sleep: Callable[[float], None] = time.sleep,
        attempts: int = 5,
    ) -> None:
        self._partial, self._connection = partial, connection or Connection({})
        self._sleep, self._attempts = sleep, attempts
        self._dead: dict[str, str] = {}

    @property
    def connection(self) -> Connection:
        """What it asks by."""
        return self._connection

    def into(
        self,
        address: str,
        expected: Digest,
        store: BlobStore,
        *,
        progress: Callable[[int], None] = lambda done: None,
        login: Login = ANONYMOUS,
    ) -> Digest:
        """Bring the bytes of `address` into `store`; Unavailable, and nothing kept there, unless they are `expected`.

        `progress` gets the bytes done so far, which fall back when a download must begin again.
        """
        if not is_remote(address):
            return _copy(local_path(address), expected, store, progress)
        patience = self._patience(address)
        with open_partial(self._partial, expected) as partial:
            while True:
                inherited = partial.length > 0
                with store.writer() as writer:
                    try:
                        self._pull(address, _Sink(expected, partial, writer, progress), patience, login)
                        digest = writer.commit(expected)
                    except (_Restart, _Wrong, MaterialError) as error:
                        partial.clear()
                        if isinstance(error, _Restart) or inherited:  # what was inherited may be what is wrong
                            continue
                        raise Unavailable(str(error)) from error
                partial.remove()
                return digest

    def learn(self, address: str, store: BlobStore, *, login: Login = ANONYMOUS) -> Digest:
        """Bring the bytes of `address` into `store`, whatever they are: only for what is about to be locked."""
        patience = self._patience(address)
        while True:
            opened = self._connection.open("GET", address, _IDENTITY, login=login)
            try:
                with opened as response, store.writer() as writer:
                    for chunk in response.iter_raw():
                        writer.write(chunk)
                    return writer.commit()
            except Broken as error:
                patience.failed(error)

    def read(self, address: str, *, accept: str = "*/*", limit: int = _MAX_PAGE, login: Login = ANONYMOUS) -> Page:
        """Read a body of at most `limit` bytes whole; Missing or Unavailable when there is none."""
        if not is_remote(address):
            path = local_path(address)
            if not path.is_file():
                raise Missing(f"No file `{path}`")
            return Page(path.read_bytes(), "", address)
        patience = self._patience(address)
        while True:
            try:
                with self._connection.open("GET", address, {"Accept": accept}, login=login) as response:
                    kind, at = response.headers.get("Content-Type", ""), str(response.url)
                    return Page(_bounded(response, limit), kind, at, _following(response))
            except Broken as error:
                patience.failed(error)

    def size(self, address: str, *, login: Login = ANONYMOUS) -> int:
        """Ask for the length of a body without reading it."""
        if not is_remote(address):
            return local_path(address).stat().st_size
        patience = self._patience(address)
        while True:
            try:
                with self._connection.open("HEAD", address, _IDENTITY, login=login) as response:
                    length = response.headers.get("Content-Length", "")
            except Broken as error:
                patience.failed(error)
                continue
            if not length.isdecimal():
                raise Unavailable("Does not say how long it is")
            return int(length)

    def _patience(self, address: str) -> Patience:
        return Patience(self._attempts, self._sleep, self._dead, address)

    def _pull(self, address: str, sink: _Sink, patience: Patience, login: Login) -> None:
        sink.replay()
        while sink.missing:
            begin = sink.done
            headers = _IDENTITY | ({"Range": f"bytes={begin}-"} if begin else {})
            try:
                with self._connection.open("GET", address, headers, login=login) as response:
                    if begin and not _continues(response, begin):
                        raise _Restart
                    _check_length(response, sink.missing)
                    for chunk in response.iter_raw():  # of no fixed size, which would hold back what a break loses
                        sink.write(chunk)
                        patience.reached(sink.done)
                if sink.missing:
                    raise Broken(f"Ends after {sink.done} bytes, {sink.missing} are missing")
            except Broken as error:
                patience.failed(error)


class _Sink:
    """Writes to the store and to the partial file at once, and no more than expected."""

    def __init__(self, expected: Digest, partial: Partial, writer: BlobWriter, progress: Callable[[int], None]) -> None:
        self._expected, self._partial, self._writer, self._progress = expected, partial, writer, progress

    @property
    def done(self) -> int:
        return self._partial.length

    @property
    def missing(self) -> int:
        return self._expected.size - self._partial.length

    def replay(self) -> None:
        if self.missing < 0:
            raise _Restart
        for chunk in self._partial.replay():
            self._writer.write(chunk)
        self._progress(self.done)

    def write(self, chunk: bytes) -> None:
        if len(chunk) > self.missing:
            raise _Wrong(f"Gives more than the expected {self._expected.size} bytes")
        self._writer.write(chunk)
        self._partial.append(chunk)
        self._progress(self.done)


def _copy(path: Path, expected: Digest, store: BlobStore, progress: Callable[[int], None]) -> Digest:
    try:
        with path.open("rb") as file, store.writer() as writer:
            sink = _Sink(expected, Partial(None, None), writer, progress)
            while chunk := file.read(_CHUNK):
                sink.write(chunk)
            return writer.commit(expected)
    except FileNotFoundError as error:
        raise Missing("No such file") from error
    except OSError as error:
        raise Unavailable(error.strerror or str(error)) from error
    except (_Wrong, MaterialError) as error:
        raise Unavailable(str(error)) from error


def _bounded(response: httpx2.Response, limit: int) -> bytes:
    data = bytearray()
    for chunk in response.iter_bytes(_CHUNK):
        data += chunk
        if len(data) > limit:
            raise Unavailable(f"Gives more than {limit} bytes")
    return bytes(data)


def _following(response: httpx2.Response) -> str:
    link = response.links.get("next", {}).get("url", "")
    return urljoin(str(response.url), link) if link else ""


def _continues(response: httpx2.Response, begin: int) -> bool:
    return response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {begin}-")


def _check_length(response: httpx2.Response, missing: int) -> None:
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) != missing:
        raise _Wrong(f"Has {length} bytes where {missing} are expected")
