"""Bazel's HTTP cache protocol: `GET` and `PUT` of `<address>/ac/HASH` and `<address>/cas/HASH`.

https://bazel.build/remote/caching#http-caching. Results are real ActionResult messages, as servers such as bazel-remote
look into them. A login is that of the address, netrc's, or a header; it goes to the address's host alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from forge.core.digest import Digest
from forge.core.remote import Opener, RemoteError, RemoteRefused
from forge.net.address import mask
from forge.net.connection import Body, Broken, Connection, Denied, Missing, Unavailable
from forge.remote.address import RemoteSettings
from forge.remote.attempt import ATTEMPTS, Passing, allowance, attempt, pause

if TYPE_CHECKING:
    import httpx2

_CHUNK: Final = 1 << 18
_MAX_RESULT: Final = 16 << 20
"""Bytes of an ActionResult: it names outputs, and those of a tree by one digest."""
_QUESTIONS: Final = 16
"""Calls at a time by which it asks what is missing: the protocol asks for one blob a call."""
_GIVEN: Final = frozenset((200,))
_TAKEN: Final = frozenset((200, 201, 202, 204))
_IDENTITY: Final = {"Accept-Encoding": "identity"}
_BINARY: Final = {"Content-Type": "application/octet-stream"}


class HttpCache:
    """A server of the HTTP cache protocol."""

    batch = 0

    def __init__(
        self,
        settings: RemoteSettings,
        environ: Mapping[str, str],
        *,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        parts = urlsplit(settings.address)
        self._base = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        self.name = mask(self._base)
        self._private = dict(settings.headers)
        self._timeout, self._sleep = settings.timeout, sleep
        self._connection = Connection(environ, timeout=settings.timeout)

    def result(self, key: Digest) -> bytes | None:
        """Ask for the ActionResult message of an Action; None where there is none."""
        try:
            return attempt(lambda: b"".join(self._get(f"ac/{key.hash}", _MAX_RESULT)), self._sleep)
        except KeyError:
            return None

    def put_result(self, key: Digest, message: bytes) -> None:
        """Keep an ActionResult; what it names must be there before."""
        attempt(lambda: self._put(f"ac/{key.hash}", message, len(message)), self._sleep)

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Tell which of some blobs are not there: a `HEAD` each, several at a time."""
        if len(digests) < 2:
            return {digest for digest in digests if not self._has(digest)}
        with ThreadPoolExecutor(min(_QUESTIONS, len(digests)), "remote-head") as pool:
            asked = list(digests)
            return {digest for digest, has in zip(asked, pool.map(self._has, asked), strict=True) if not has}

    def read(self, digest: Digest) -> Iterator[bytes]:
        """Read a blob as it comes; KeyError where it is not there. One that breaks off is not gone on with."""
        done = faults = 0
        while True:
            try:
                for chunk in self._get(f"cas/{digest.hash}", digest.size):
                    done += len(chunk)
                    yield chunk
                return
            except Passing as error:
                faults += 1
                if done or faults == ATTEMPTS:
                    raise RemoteError(str(error)) from error
                self._sleep(pause(faults, error))

    def read_batch(self, digests: Sequence[Digest]) -> dict[Digest, bytes]:
        """Read small blobs one after another; those that are not there are left out."""
        found = {}
        for digest in digests:
            try:
                found[digest] = attempt(lambda: b"".join(self._get(f"cas/{digest.hash}", digest.size)), self._sleep)  # noqa: B023
            except KeyError:
                continue
        return found

    def write(self, digests: Sequence[Digest], opener: Opener) -> None:
        """Write blobs, streamed, one after another."""
        for digest in digests:
            body: Body = _stream(digest, opener)
            attempt(lambda: self._put(f"cas/{digest.hash}", body, digest.size), self._sleep)  # noqa: B023

    def close(self) -> None:
        """Close its connections."""
        self._connection.close()

    def _has(self, digest: Digest) -> bool:
        def ask() -> bool:
            try:
                with self._asked("HEAD", f"cas/{digest.hash}", _IDENTITY):
                    return True
            except KeyError:
                return False

        return attempt(ask, self._sleep)

    def _get(self, path: str, limit: int) -> Iterator[bytes]:
        """Read a body of at most `limit` bytes, in at most the time that so many may take."""
        begun, done = time.monotonic(), 0
        with self._asked("GET", path, _IDENTITY) as response:
            for chunk in response.iter_raw():
                done += len(chunk)
                if done > limit:
                    raise RemoteError(f"`{path}` has more than the expected {limit} bytes")
                if time.monotonic() - begun > allowance(self._timeout, done):
                    raise RemoteError(f"`{path}` comes too slowly")
                yield chunk

    def _put(self, path: str, body: Body, size: int) -> None:
        headers = {**_BINARY, "Content-Length": str(size)}
        with self._asked("PUT", path, headers, body):
            pass

    @contextmanager
    def _asked(
        self, method: str, path: str, headers: Mapping[str, str], body: Body | None = None
    ) -> Iterator[httpx2.Response]:
        """Send a request; KeyError, RemoteRefused, RemoteError, and Passing for what may mend itself."""
        accepted = _GIVEN if body is None else _TAKEN
        opened = self._connection.open(
            method, f"{self._base}/{path}", headers, body=body, accepted=accepted, private=self._private
        )
        try:
            with opened as response:
                yield response
        except Missing as error:
            raise KeyError(str(error)) from error
        except Denied as error:
            raise RemoteRefused(str(error)) from error
        except Broken as error:
            if error.late:  # who did not answer in all that time has had its chance
                raise RemoteError(str(error)) from error
            raise Passing(str(error), wait=error.wait) from error
        except Unavailable as error:
            raise RemoteError(str(error)) from error


def _stream(digest: Digest, opener: Opener) -> Callable[[], Iterator[bytes]]:
    def chunks() -> Iterator[bytes]:
        with opener(digest) as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    return chunks
