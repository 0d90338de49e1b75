"""Uploading: a blob from the store to a registry, streamed, resumed where it broke off.

https://github.com/opencontainers/distribution-spec, "Push". What is small goes in one request, what is large in
chunks. After a break the registry is asked how far it came (`Range` of the upload's status). Where a `Location`
leads to another host, the login stays behind; from https to http nothing follows it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Final, Literal
from urllib.parse import quote, urlencode, urljoin, urlsplit, urlunsplit

from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.net.address import mask
from forge.net.connection import (
    ANONYMOUS,
    Body,
    Broken,
    Connection,
    Denied,
    Login,
    Missing,
    Unavailable,
    host_of,
)
from forge.net.patience import Patience
from forge.net.registry import ACCEPT, LIMIT, api

CHUNK: Final = 64 << 20
"""Bytes of one request; what a break costs at most where a registry keeps only whole requests."""
DIGEST: Final = "Docker-Content-Digest"
"""Header in which a registry says what it takes a document or blob for."""

_DONE: Final = range(200, 300)
_CREATED: Final = 201
_OUT_OF_STEP: Final = 416
_READ: Final = 1 << 20
_BINARY: Final = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a registry says to a request."""

    status: int
    headers: Mapping[str, str]
    data: bytes = b""


@dataclass(slots=True)
class _Session:
    """An upload that the registry has begun to take."""

    location: str
    offset: int
    chunk: int
    is_resumed: bool = False


@dataclass(slots=True)
class Uploader:
    """Sends to one address of a registry, patiently; safe to share between threads."""

    address: str
    connection: Connection
    login: Login = field(repr=False)
    sleep: Callable[[float], object] = time.sleep
    attempts: int = 6
    chunk: int = CHUNK
    progress: Callable[[int], None] = lambda count: None
    """Gets the number of bytes that have just been given to the connection."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set by whoever wants no more to be sent."""
    _dead: dict[str, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Send a small request for a part of a repository; Missing, Denied or Unavailable when it is refused."""
        address = api(self.address, path)
        patience = Patience(self.attempts, self.sleep, self._dead, address)
        while True:
            try:
                return self._once(method, address, headers or {}, body)
            except Broken as error:
                patience.failed(error)

    def has_blob(self, repository: str, digest: Digest) -> bool:
        """Say whether a repository has a blob."""
        try:
            self.ask("HEAD", f"{repository}/blobs/{digest.oci}")
        except Missing:
            return False
        return True

    def named(self, repository: str, reference: str) -> str | None:
        """Say which document a tag or digest means there, empty where the registry does not tell; None for none."""
        try:
            answer = self.ask("HEAD", f"{repository}/manifests/{reference}", {"Accept": ACCEPT})
        except Missing:
            return None
        return answer.headers.get(DIGEST, "")

    def send(
        self, repository: str, digest: Digest, opened: Callable[[], BinaryIO], origin: str = ""
    ) -> Literal["sent", "mounted"]:
        """Bring a blob into a repository, by a mount from the repository `origin` where the registry makes one."""
        session: _Session | None = None
        if origin:
            session = self._mount(repository, digest, origin)
            if session is None:
                return "mounted"
        patience = Patience(self.attempts, self.sleep, self._dead, api(self.address, repository), is_known=True)
        with _Content(digest, opened, self) as content:
            while True:
                try:
                    session = session or self._begin(repository)
                    self._transfer(session, content, patience)
                    return "sent"
                except Broken as error:
                    session = self._after(error, session, patience)
                except (Denied, _Stopped):
                    raise
                except Unavailable as error:
                    # What was resumed may be what is wrong, or the upload may be forgotten.
                    if session is None or not (session.is_resumed or isinstance(error, Missing)):
                        raise
                    patience.failed(Broken(str(error)))
                    session = None
                if session is None and self.has_blob(repository, digest):  # it was only the answer that was lost
                    return "sent"

    def _after(self, error: Broken, session: _Session | None, patience: Patience) -> _Session | None:
        """Wait, and ask how far an upload came; None where it must begin again."""
        patience.failed(error)
        while session is not None:
            try:
                headers = self._once("GET", session.location, {}, None).headers
            except Broken as again:
                patience.failed(again)
                continue
            except (Denied, Missing, Unavailable):
                return None
            location = self.follow(session.location, headers) if headers.get("Location") else session.location
            return _Session(location, _reached(headers, 0), session.chunk, is_resumed=True)
        return None

    def _mount(self, repository: str, digest: Digest, origin: str) -> _Session | None:
        """Ask for a blob of another repository; None when it is there now, else the upload that began instead."""
        query = urlencode({"mount": digest.oci, "from": origin})
        try:
            return self._opened(f"{repository}/blobs/uploads/?{query}", digest)
        except Unavailable:  # such as for want of rights on the other repository: what counts is said to the next one
            return self._begin(repository)

    def _begin(self, repository: str) -> _Session:
        session = self._opened(f"{repository}/blobs/uploads/", None)
        assert session is not None
        return session

    def _opened(self, path: str, mounted: Digest | None) -> _Session | None:
        answer = self.ask("POST", path)
        headers = answer.headers
        if mounted is not None and answer.status == _CREATED:
            _check_digest(headers, mounted)
            return None
        least = headers.get("OCI-Chunk-Min-Length", "")
        chunk = max(self.chunk, int(least) if least.isdecimal() else 0)
        return _Session(self.follow(api(self.address, path), headers), 0, chunk)

    def _transfer(self, session: _Session, content: _Content, patience: Patience) -> None:
        size = content.digest.size
        if session.offset > size:
            raise Unavailable(f"Has {session.offset} bytes of {size}")
        is_whole = session.offset == 0 and size <= session.chunk
        while not is_whole and session.offset < size:
            end = min(session.offset + session.chunk, size)
            given = {"Content-Range": f"{session.offset}-{end - 1}"}
            headers = self._stream("PATCH", session.location, content, (session.offset, end), given)
            reached = _reached(headers, end)
            session.location = self.follow(session.location, headers)
            if not session.offset < reached <= end:
                raise Broken(f"Has {reached} bytes after {end} were sent")
            session.offset = reached
            patience.reached(reached)
        last = f"{session.location}{'&' if urlsplit(session.location).query else '?'}digest={quote(content.digest.oci)}"
        _check_digest(self._stream("PUT", last, content, (session.offset, size), {}), content.digest)

    def _stream(
        self, method: str, address: str, content: _Content, span: tuple[int, int], more: Mapping[str, str]
    ) -> Mapping[str, str]:
        begin, end = span
        headers = {**_BINARY, **more, "Content-Length": str(end - begin)}
        body = (lambda: content.read(begin, end)) if end > begin else b""
        return self._once(method, address, headers, body).headers

    def _once(self, method: str, address: str, headers: Mapping[str, str], body: Body | None) -> Answer:
        login = self.login if host_of(address) == host_of(self.address) else ANONYMOUS
        accepted: Container[int] = {*_DONE, _OUT_OF_STEP} if method == "PATCH" else _DONE
        with self.connection.open(method, address, headers, login=login, body=body, accepted=accepted) as response:
            if response.status_code == _OUT_OF_STEP:
                raise Broken("It is out of step with what was sent")
            data = bytearray()
            if method == "GET":
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > LIMIT:
                        raise Unavailable(f"Gives more than {LIMIT} bytes")
            return Answer(response.status_code, response.headers, bytes(data))

    def follow(self, address: str, headers: Mapping[str, str]) -> str:
        """Read where an upload goes on; Unavailable where nothing may be sent."""
        location = headers.get("Location", "")
        if not location:
            raise Unavailable("Does not say where an upload goes on")
        target = urljoin(address, location)
        if address.startswith("https:") and not target.startswith("https:"):
            raise Unavailable(f"Sends an upload from https to `{mask(target)}`")
        if not target.startswith(("https:", "http:")):
            raise Unavailable(f"Sends an upload to `{mask(target)}`")
        if host_of(target) == host_of(self.address):  # spelled as ours, so that its login is found again
            target = urlunsplit(urlsplit(target)._replace(netloc=urlsplit(self.address).netloc))
        return target


class _Stopped(Unavailable):
    """Somebody wants no more to be sent."""


class _Content:
    """A blob that is read forward; only after a break again from where it is asked for."""

    def __init__(self, digest: Digest, opened: Callable[[], BinaryIO], uploader: Uploader) -> None:
        self.digest = digest
        self._opened, self._uploader = opened, uploader
        self._file: BinaryIO | None = None
        self._position = 0

    def __enter__(self) -> _Content:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def read(self, begin: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of a span; MaterialError where the store does not have them."""
        file = self._at(begin)
        while self._position < end:
            if self._uploader.stopped.is_set():
                raise _Stopped("Stopped")
            chunk = file.read(min(_READ, end - self._position))
            if not chunk:
                raise MaterialError(f"The store holds {self._position} bytes for {self.digest}")
            self._position += len(chunk)
            yield chunk
            self._uploader.progress(len(chunk))

    def _at(self, offset: int) -> BinaryIO:
        if self._file is None or self._position != offset:
            if self._file is not None:
                self._file.close()
            try:
                self._file, self._position = self._opened(), 0
            except KeyError:
                raise MaterialError(f"The store lacks {self.digest}") from None
            while self._position < offset:  # a recipe cannot be sought in
                skipped = len(self._file.read(min(_READ, offset - self._position)))
                if not skipped:
                    raise MaterialError(f"The store holds {self._position} bytes for {self.digest}")
                self._position += skipped
        return self._file


def _reached(headers: Mapping[str, str], otherwise: int) -> int:
    """Read how many bytes of an upload are there: `0-99` are a hundred, and `0-0` is what none is called too."""
    last = headers.get("Range", "").removeprefix("bytes=").partition("-")[2]
    if not last.isdecimal():
        return otherwise
    return int(last) + 1 if int(last) else 0


def _check_digest(headers: Mapping[str, str], expected: Digest) -> None:
    found = headers.get(DIGEST, "")
    if found and found != expected.oci:
        raise Unavailable(f"Takes {expected.oci} for {found}")
