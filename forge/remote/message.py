"""Messages of the Remote Execution API and of ByteStream, as much of them as a cache's client says and hears.

build/bazel/remote/execution/v2/remote_execution.proto and google/bytestream/bytestream.proto; the numbers are theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from forge.core import wire
from forge.core.digest import Digest
from forge.core.tree import decode_digest, encode_digest

_SHA256 = 1
"""`DigestFunction.Value`."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server says of its cache."""

    has_sha256: bool
    may_update: bool
    """Whether it takes results from its clients."""
    batch: int
    """Bytes of a batch of blobs at most; 0 where it sets no limit of its own."""


def instance(name: str) -> bytes:
    """Begin a request: the first field of each of them is the instance's name."""
    return wire.string(1, name)


def capabilities(encoded: bytes) -> Capabilities:
    """Read ServerCapabilities; ValueError when they are none."""
    functions: list[int] = []
    may_update, batch = False, 0
    for number, value in wire.fields(encoded):
        if number != 1:
            continue
        for part, said in wire.fields(wire.as_bytes(value)):
            if part == 1:  # an enum, repeated: packed, or one by one
                functions += _packed(said) if isinstance(said, bytes) else [said]
            elif part == 2:
                may_update = bool(dict(wire.fields(wire.as_bytes(said))).get(1, 0))
            elif part == 4:
                batch = wire.as_int(said)
    return Capabilities(_SHA256 in functions, may_update, batch)


def ask_result(name: str, key: Digest) -> bytes:
    """Encode GetActionResultRequest."""
    return instance(name) + wire.message(2, encode_digest(key))


def update_result(name: str, key: Digest, result: bytes) -> bytes:
    """Encode UpdateActionResultRequest."""
    return ask_result(name, key) + wire.message(3, result)


def find_missing(name: str, digests: Iterable[Digest]) -> bytes:
    """Encode FindMissingBlobsRequest."""
    return instance(name) + b"".join(wire.message(2, encode_digest(digest)) for digest in digests)


def missing(encoded: bytes) -> set[Digest]:
    """Read FindMissingBlobsResponse; ValueError when it is none."""
    return {decode_digest(wire.as_bytes(value)) for number, value in wire.fields(encoded) if number == 2}


def batch_read(name: str, digests: Iterable[Digest]) -> bytes:
    """Encode BatchReadBlobsRequest, whose fields are numbered as FindMissingBlobsRequest's."""
    return find_missing(name, digests)


def batch_data(encoded: bytes) -> Iterator[tuple[Digest, int, bytes]]:
    """Read BatchReadBlobsResponse: each blob with its status (0 is good) and bytes; ValueError when it is none."""
    for number, value in wire.fields(encoded):
        if number == 1:
            node = dict(wire.fields(wire.as_bytes(value)))
            digest = decode_digest(wire.as_bytes(node.get(1, b"")))
            yield digest, status(wire.as_bytes(node.get(3, b"")))[0], wire.as_bytes(node.get(2, b""))


def batch_update(name: str, blobs: Iterable[tuple[Digest, bytes]]) -> bytes:
    """Encode BatchUpdateBlobsRequest."""
    requests = (wire.message(2, wire.message(1, encode_digest(digest)) + wire.data(2, data)) for digest, data in blobs)
    return instance(name) + b"".join(requests)


def batch_taken(encoded: bytes) -> Iterator[tuple[Digest, int, str]]:
    """Read BatchUpdateBlobsResponse: each blob with its status and what is said of it; ValueError when it is none."""
    for number, value in wire.fields(encoded):
        if number == 1:
            node = dict(wire.fields(wire.as_bytes(value)))
            yield decode_digest(wire.as_bytes(node.get(1, b""))), *status(wire.as_bytes(node.get(2, b"")))


def status(encoded: bytes) -> tuple[int, str]:
    """Read google.rpc.Status: its code, and what it says."""
    node = dict(wire.fields(encoded))
    return wire.as_int(node.get(1, 0)), wire.as_text(node.get(2, b""))


def read_name(name: str, digest: Digest) -> str:
    """Name a blob to ByteStream, to read it."""
    return "/".join(filter(None, (name, f"blobs/{digest.hash}/{digest.size}")))


def write_name(name: str, upload: str, digest: Digest) -> str:
    """Name a blob to ByteStream, to write it; `upload` is a UUID."""
    return "/".join(filter(None, (name, f"uploads/{upload}/blobs/{digest.hash}/{digest.size}")))


def read_request(resource: str, offset: int) -> bytes:
    """Encode ByteStream's ReadRequest."""
    return wire.string(1, resource) + wire.integer(2, offset)


def read_data(encoded: bytes) -> bytes:
    """Read ByteStream's ReadResponse; ValueError when it is none."""
    return b"".join(wire.as_bytes(value) for number, value in wire.fields(encoded) if number == 10)


def write_request(resource: str, offset: int, data: bytes, *, is_last: bool) -> bytes:
    """Encode ByteStream's WriteRequest; only the first of a stream names the resource."""
    return wire.string(1, resource) + wire.integer(2, offset) + wire.integer(3, is_last) + wire.data(10, data)


def write_status(resource: str) -> bytes:
    """Encode ByteStream's QueryWriteStatusRequest."""
    return wire.string(1, resource)


def committed(encoded: bytes) -> int:
    """Read how far a WriteResponse or QueryWriteStatusResponse says that a blob came; ValueError when it is none."""
    return wire.signed(dict(wire.fields(encoded)).get(1, 0))


def _packed(encoded: bytes) -> list[int]:
    # A packed field is its values without tags; each of those that count is one byte.
    return list(encoded)
