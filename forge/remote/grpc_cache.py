"""The Remote Execution API's caches over gRPC: ActionCache, ContentAddressableStorage, ByteStream.

https://github.com/bazelbuild/remote-apis. What is small goes in batches, what is large as a stream, which goes on where
it broke off. Messages are bytes that `message` reads and writes, so that no compiled protocol is needed.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc

from forge.core.digest import Digest
from forge.core.remote import Opener, RemoteError, RemoteRefused
from forge.net.address import is_loopback
from forge.remote import message
from forge.remote.address import RemoteSettings
from forge.remote.attempt import ATTEMPTS, Passing, allowance, attempt, pause

_SERVICES: Final = "/build.bazel.remote.execution.v2"
_STREAM: Final = "/google.bytestream.ByteStream"
_BATCH: Final = 4_000_000
"""Bytes of a batch: gRPC's own limit for a message is 4 MiB where nobody sets another."""
_QUESTIONS: Final = 20_000
"""Digests that are asked about in one call, each of about 75 bytes."""
_CHUNK: Final = 1 << 20
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.enable_retries", 0),
    ("grpc.primary_user_agent", "forge"),
    ("grpc.keepalive_time_ms", 60_000),
)
_PASSING: Final = frozenset(("UNAVAILABLE", "ABORTED", "INTERNAL", "UNKNOWN", "RESOURCE_EXHAUSTED", "CANCELLED"))
_REFUSED: Final = frozenset(("PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED"))
_DENIED: Final = (7, 16)
"""google.rpc.Code: PERMISSION_DENIED, UNAUTHENTICATED."""


class GrpcCache:
    """A server of the Remote Execution API."""

    def __init__(
        self,
        settings: RemoteSettings,
        environ: Mapping[str, str],
        *,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        parts = urlsplit(settings.address)
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._is_tls = parts.scheme == "grpcs"
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self._target = f"{host}:{parts.port or (443 if self._is_tls else 80)}"
        self._instance = settings.instance
        # What the environment says of proxies is not for this machine itself.
        self._options = (*_OPTIONS, ("grpc.enable_http_proxy", int(not is_loopback(parts.hostname or ""))))
        self._metadata = settings.headers
        self._timeout, self._sleep, self._environ = settings.timeout, sleep, environ
        self._lock = threading.Lock()
        self._channel: Any = None
        self._said: message.Capabilities | None = None

    @property
    def batch(self) -> int:
        """Bytes of blobs that one call reads or writes at most, as the server has it."""
        return min(self._capabilities().batch or _BATCH, _BATCH)

    def result(self, key: Digest) -> bytes | None:
        """Ask for the ActionResult message of an Action; None where there is none."""
        self._capabilities()
        try:
            return self._call(f"{_SERVICES}.ActionCache/GetActionResult", message.ask_result(self._instance, key))
        except KeyError:
            return None

    def put_result(self, key: Digest, result: bytes) -> None:
        """Keep an ActionResult; what it names must be there before."""
        if not self._capabilities().may_update:
            raise RemoteRefused("Takes no results from its clients")
        request = message.update_result(self._instance, key, result)
        self._found(f"{_SERVICES}.ActionCache/UpdateActionResult", request)

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Tell which of some blobs are not there."""
        self._capabilities()
        asked, found = list(digests), set()
        for begin in range(0, len(asked), _QUESTIONS):
            request = message.find_missing(self._instance, asked[begin : begin + _QUESTIONS])
            answer = self._found(f"{_SERVICES}.ContentAddressableStorage/FindMissingBlobs", request)
            found |= _understood(lambda: message.missing(answer))  # noqa: B023
        return found

    def read(self, digest: Digest) -> Iterator[bytes]:
        """Read a blob as it comes, going on where it breaks off; KeyError where it is not there."""
        done = breaks = 0
        while True:
            try:
                for chunk in self._stream(digest, done):
                    done += len(chunk)
                    if done > digest.size:
                        raise RemoteError(f"`{digest.short}` has more than the expected {digest.size} bytes")
                    yield chunk
                return
            except Passing as error:
                breaks += 1
                if breaks == ATTEMPTS:
                    raise RemoteError(f"{error} ({ATTEMPTS} attempts)") from error
                self._sleep(pause(breaks, error))

    def read_batch(self, digests: Sequence[Digest]) -> dict[Digest, bytes]:
        """Read blobs of at most `batch` bytes together; those that are not there are left out."""
        request = message.batch_read(self._instance, digests)
        answer = self._found(f"{_SERVICES}.ContentAddressableStorage/BatchReadBlobs", request)
        found = _understood(lambda: list(message.batch_data(answer)))
        return {digest: data for digest, code, data in found if not code}

    def write(self, digests: Sequence[Digest], opener: Opener) -> None:
        """Write blobs: one of any size, or several of at most `batch` bytes together."""
        if len(digests) == 1 and digests[0].size > self.batch:
            self._write_stream(digests[0], opener)
            return
        blobs = []
        for digest in digests:
            with opener(digest) as file:
                blobs.append((digest, file.read()))
        request = message.batch_update(self._instance, blobs)
        answer = self._found(f"{_SERVICES}.ContentAddressableStorage/BatchUpdateBlobs", request)
        for digest, code, said in _understood(lambda: list(message.batch_taken(answer))):
            if code:
                kind = RemoteRefused if code in _DENIED else RemoteError
                raise kind(f"Does not take `{digest.short}`: {said or f'status {code}'}")

    def close(self) -> None:
        """Close its connections."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
            self._channel = None

    def _capabilities(self) -> message.Capabilities:
        """Ask once what the server does; RemoteError where that will not do."""
        with self._lock:
            said = self._said
        if said is None:
            request = message.instance(self._instance)
            answer = self._found(f"{_SERVICES}.Capabilities/GetCapabilities", request)
            said = _understood(lambda: message.capabilities(answer))
            if not said.has_sha256:
                raise RemoteError("Does not name content by SHA-256")
            with self._lock:
                self._said = said
        return said

    def _write_stream(self, digest: Digest, opener: Opener) -> None:
        """Write one blob; what came of it before a break is not sent again."""
        resource = message.write_name(self._instance, str(uuid.uuid4()), digest)

        begun = threading.Event()

        def send() -> None:
            offset = self._progress(resource, digest) if begun.is_set() else 0
            begun.set()
            if offset == digest.size:
                return
            call = self._open().stream_unary(f"{_STREAM}/Write")
            requests = _requests(resource, digest, offset, opener)
            left = allowance(self._timeout, digest.size - offset)
            taken = message.committed(_answered(lambda: call(requests, timeout=left, metadata=self._metadata)))
            # A server that has the blob already says its whole size, whatever it was sent.
            if taken != digest.size:
                raise Passing(f"Took {taken} of {digest.size} bytes")

        try:
            attempt(send, self._sleep)
        except KeyError as error:
            raise RemoteError(f"Does not know the instance `{self._instance}`") from error

    def _progress(self, resource: str, digest: Digest) -> int:
        """Ask how far a write came; from the beginning where the server does not know."""
        call = self._open().unary_unary(f"{_STREAM}/QueryWriteStatus")
        try:
            request = message.write_status(resource)
            said = message.committed(_answered(lambda: call(request, timeout=self._timeout, metadata=self._metadata)))
        except (KeyError, RemoteError, ValueError):
            return 0
        return said if 0 <= said <= digest.size else 0

    def _stream(self, digest: Digest, offset: int) -> Iterator[bytes]:
        call = self._open().unary_stream(f"{_STREAM}/Read")
        request = message.read_request(message.read_name(self._instance, digest), offset)
        left = allowance(self._timeout, digest.size - offset)
        stream = _answered(lambda: call(request, timeout=left, metadata=self._metadata))
        try:
            while (encoded := _answered(lambda: next(stream, None))) is not None:
                yield _understood(lambda: message.read_data(encoded))
        finally:
            stream.cancel()

    def _found(self, method: str, request: bytes) -> bytes:
        """Call where there is no such answer as that something is not there."""
        try:
            return self._call(method, request)
        except KeyError as error:
            raise RemoteError(
                f"Does not know the instance `{self._instance}`, or {method.rpartition('/')[2]}"
            ) from error

    def _call(self, method: str, request: bytes) -> bytes:
        call = self._open().unary_unary(method)
        left = allowance(self._timeout, len(request))
        answer: bytes = attempt(
            lambda: _answered(lambda: call(request, timeout=left, metadata=self._metadata)), self._sleep
        )
        return answer

    def _open(self) -> Any:
        with self._lock:
            if self._channel is None:
                if self._is_tls:
                    own = self._environ.get("SSL_CERT_FILE")
                    roots = Path(own).read_bytes() if own and Path(own).is_file() else None
                    credentials = grpc.ssl_channel_credentials(root_certificates=roots)
                    self._channel = grpc.secure_channel(self._target, credentials, options=self._options)
                else:
                    self._channel = grpc.insecure_channel(self._target, options=self._options)
            return self._channel


def _requests(resource: str, digest: Digest, offset: int, opener: Opener) -> Iterator[bytes]:
    with opener(digest) as file:
        skipped = 0
        while skipped < offset and (skip := file.read(min(_CHUNK, offset - skipped))):  # a recipe cannot seek
            skipped += len(skip)
        first, at = resource, offset
        while True:
            chunk = file.read(min(_CHUNK, digest.size - at))
            is_last = at + len(chunk) >= digest.size or not chunk
            yield message.write_request(first, at, chunk, is_last=is_last)
            at += len(chunk)
            first = ""
            if is_last:
                return


def _answered(call: Callable[[], Any]) -> Any:
    """Sort what goes wrong: KeyError, RemoteRefused, RemoteError, and Passing for what may mend itself."""
    try:
        return call()
    except grpc.RpcError as error:
        code = error.code().name if hasattr(error, "code") and error.code() else "UNKNOWN"
        said = (error.details() or "") if hasattr(error, "details") else ""
        text = f"{code.replace('_', ' ').capitalize()}: {said[:300]}" if said else code.replace("_", " ").capitalize()
        if code == "NOT_FOUND":
            raise KeyError(text) from error
        if code in _REFUSED:
            raise RemoteRefused(text) from error
        raise (Passing if code in _PASSING else RemoteError)(text) from error


def _understood(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ValueError as error:
        raise RemoteError(f"Gives an answer that cannot be read: {error}") from error
