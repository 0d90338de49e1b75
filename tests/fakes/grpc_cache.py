"""A server of the Remote Execution API's caches on this machine, by generic handlers, and its faults.

It reads and writes messages by the numbers of the published protocol with `core.wire` alone, not with forge's client.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from forge.core import wire

_PREFIX = "build.bazel.remote.execution.v2"


@dataclass
class GrpcCacheServer:
    """Blobs by hash, results by the hash of their key."""

    instance: str = ""
    batch: int = 1000
    """Bytes of a batch: small, so that tests stream too."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    token: str = ""
    """`authorization` that every call must show."""
    may_update: bool = True
    read_only: bool = False
    """It says that it may be written, and refuses it then."""
    broken: int = 0
    """Calls that are answered with UNAVAILABLE before the others."""
    breaks_after: int = 0
    """Bytes after which each of the next streams breaks off, so often as `breaks` says."""
    breaks: int = 0
    slow: float = 0.0
    log: list[str] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    received: int = 0
    """Bytes that came by streams."""
    address: str = ""

    @contextmanager
    def running(self) -> Iterator[GrpcCacheServer]:
        """Serve until the block ends."""
        server = grpc.server(ThreadPoolExecutor(16))
        unary: dict[str, Callable[[dict[int, list[Any]], Any], bytes]] = {
            f"{_PREFIX}.Capabilities/GetCapabilities": self._capabilities,
            f"{_PREFIX}.ActionCache/GetActionResult": self._get_result,
            f"{_PREFIX}.ActionCache/UpdateActionResult": self._update_result,
            f"{_PREFIX}.ContentAddressableStorage/FindMissingBlobs": self._find_missing,
            f"{_PREFIX}.ContentAddressableStorage/BatchReadBlobs": self._batch_read,
            f"{_PREFIX}.ContentAddressableStorage/BatchUpdateBlobs": self._batch_update,
            "google.bytestream.ByteStream/QueryWriteStatus": self._write_status,
        }
        handlers: dict[str, dict[str, Any]] = {}
        for path, call in unary.items():
            service, _, method = path.partition("/")
            handler = grpc.unary_unary_rpc_method_handler(self._unary(method, call))
            handlers.setdefault(service, {})[method] = handler
        stream = handlers["google.bytestream.ByteStream"]
        stream["Read"] = grpc.unary_stream_rpc_method_handler(self._read)
        stream["Write"] = grpc.stream_unary_rpc_method_handler(self._write)
        for service, methods in handlers.items():
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self.address = f"grpc://127.0.0.1:{port}"
        try:
            yield self
        finally:
            server.stop(None).wait()

    def _unary(self, name: str, call: Callable[[dict[int, list[Any]], Any], bytes]) -> Callable[[bytes, Any], bytes]:
        def answer(request: bytes, context: Any) -> bytes:
            self._enter(name, context)
            table = _table(request)
            if name != "QueryWriteStatus" and table.get(1, [b""])[0].decode() != self.instance:
                context.abort(grpc.StatusCode.NOT_FOUND, "no such instance")
            return call(table, context)

        return answer

    def _enter(self, name: str, context: Any) -> None:
        self.log.append(name)
        time.sleep(self.slow)
        if self.token and dict(context.invocation_metadata()).get("authorization") != self.token:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you")
        if self.broken:
            self.broken -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")

    def _capabilities(self, table: dict[int, list[Any]], context: Any) -> bytes:
        cache = wire.data(1, b"\1") + wire.message(2, wire.integer(1, self.may_update)) + wire.integer(4, self.batch)
        return wire.message(1, cache)

    def _get_result(self, table: dict[int, list[Any]], context: Any) -> bytes:
        found = self.results.get(_hash(table[2][0]))
        if found is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no result")
        assert found is not None
        return found

    def _update_result(self, table: dict[int, list[Any]], context: Any) -> bytes:
        self._refuse(context)
        self.results[_hash(table[2][0])] = table[3][0]
        return bytes(table[3][0])

    def _find_missing(self, table: dict[int, list[Any]], context: Any) -> bytes:
        return b"".join(wire.message(2, each) for each in table.get(2, []) if _hash(each) not in self.blobs)

    def _batch_read(self, table: dict[int, list[Any]], context: Any) -> bytes:
        answers = []
        for digest in table.get(2, []):
            data = self.blobs.get(_hash(digest))
            status = wire.message(3, wire.integer(1, 5)) if data is None else wire.data(2, data)
            answers.append(wire.message(1, wire.message(1, digest) + status))
        return b"".join(answers)

    def _batch_update(self, table: dict[int, list[Any]], context: Any) -> bytes:
        self._refuse(context)
        answers = []
        for request in table.get(2, []):
            one = _table(request)
            data = one.get(2, [b""])[0]
            good = hashlib.sha256(data).hexdigest() == _hash(one[1][0])
            if good:
                self.blobs[_hash(one[1][0])] = data
            status = b"" if good else wire.message(2, wire.integer(1, 3) + wire.string(2, "wrong digest"))
            answers.append(wire.message(1, wire.message(1, one[1][0]) + status))
        return b"".join(answers)

    def _refuse(self, context: Any) -> None:
        if self.read_only:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "read only")

    def _read(self, request: bytes, context: Any) -> Iterator[bytes]:
        self._enter("Read", context)
        table = _table(request)
        offset = table.get(2, [0])[0]
        data = self.blobs.get(table[1][0].decode().split("/")[-2])
        if data is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no blob")
        assert data is not None
        done = 0
        for at in range(offset, len(data), 700):
            if self.breaks and done >= self.breaks_after:
                self.breaks -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "broke off")
            chunk = data[at : at + 700]
            done += len(chunk)
            yield wire.data(10, chunk)

    def _write(self, requests: Iterator[bytes], context: Any) -> bytes:
        self._enter("Write", context)
        self._refuse(context)
        name = ""
        for request in requests:
            table = _table(request)
            name = name or table[1][0].decode()
            held = self.uploads.get(name, b"")
            assert table.get(2, [0])[0] == len(held)
            chunk = table.get(10, [b""])[0]
            self.received += len(chunk)
            self.uploads[name] = held + chunk
            if self.breaks and len(held + chunk) >= self.breaks_after:
                self.breaks -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "broke off")
            if table.get(3, [0])[0]:
                break
        data = self.uploads.get(name, b"")
        wanted = name.split("/")[-2]
        if hashlib.sha256(data).hexdigest() != wanted:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "wrong digest")
        self.blobs[wanted] = data
        return wire.integer(1, len(data))

    def _write_status(self, table: dict[int, list[Any]], context: Any) -> bytes:
        return wire.integer(1, len(self.uploads.get(table[1][0].decode(), b"")))


def _table(encoded: bytes) -> dict[int, list[Any]]:
    table: dict[int, list[Any]] = {}
    for number, value in wire.fields(encoded):
        table.setdefault(number, []).append(value)
    return table


def _hash(digest: bytes) -> str:
    return str(_table(digest)[1][0].decode())
