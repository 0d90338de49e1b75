"""Both clients of remote caches, against servers that speak their protocols on this machine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from forge.core.digest import Digest
from forge.core.errors import UsageError
from forge.core.remote import RemoteCache, RemoteError, RemoteRefused
from forge.remote.address import RemoteSettings, open_remote, parse_headers
from forge.remote.grpc_cache import GrpcCache
from forge.remote.http_cache import HttpCache
from tests.fakes.grpc_cache import GrpcCacheServer
from tests.fakes.http_cache import HttpCacheServer

Server = HttpCacheServer | GrpcCacheServer
SMALL, LARGE, ABSENT = b"small", b"0123456789" * 900, b"absent"
KEY = Digest.of(b"an action")


class Wait:
    """A clock that does not wait, and notes how long it would have."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.waited.append(seconds)


@pytest.fixture(params=["http", "grpc"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    made: Server = HttpCacheServer() if request.param == "http" else GrpcCacheServer()
    with made.running():
        yield made


def client(server: Server, *, timeout: float = 5.0, **more: object) -> RemoteCache:
    headers = more.get("headers", ())
    settings = RemoteSettings(server.address, headers, timeout, str(more.get("instance", "")))  # type: ignore[arg-type]
    kind = HttpCache if isinstance(server, HttpCacheServer) else GrpcCache
    return kind(settings, {}, sleep=Wait())


def opener(*blobs: bytes) -> object:
    table = {Digest.of(blob): blob for blob in blobs}

    def open_blob(digest: Digest) -> BinaryIO:
        return io.BytesIO(table[digest])

    return open_blob


def write(cache: RemoteCache, *blobs: bytes) -> None:
    cache.write([Digest.of(blob) for blob in blobs], opener(*blobs))  # type: ignore[arg-type]


def read(cache: RemoteCache, blob: bytes) -> bytes:
    return b"".join(cache.read(Digest.of(blob)))


def damage(server: Server, blob: bytes, becomes: bytes | None) -> None:
    name = Digest.of(blob).hash
    table, key = (server.files, f"cas/{name}") if isinstance(server, HttpCacheServer) else (server.blobs, name)
    table.pop(key)
    if becomes is not None:
        table[key] = becomes


def test_a_result_comes_back_as_it_was_put(server: Server) -> None:
    cache = client(server)
    cache.put_result(KEY, b"\x12\x00")

    assert cache.result(KEY) == b"\x12\x00"


def test_there_is_no_result_of_an_unknown_action(server: Server) -> None:
    assert client(server).result(KEY) is None


@pytest.mark.parametrize("blob", [SMALL, LARGE, b""], ids=["small", "large", "empty"])
def test_a_blob_comes_back_as_it_was_written(server: Server, blob: bytes) -> None:
    cache = client(server)
    write(cache, blob)

    assert read(cache, blob) == blob


def test_small_blobs_go_and_come_together(server: Server) -> None:
    cache, blobs = client(server), [b"one", b"two", b"three"]
    write(cache, *blobs)

    assert cache.read_batch([Digest.of(each) for each in [*blobs, ABSENT]]) == {Digest.of(each): each for each in blobs}


def test_what_is_missing_is_told(server: Server) -> None:
    cache = client(server)
    write(cache, SMALL)

    assert cache.missing([Digest.of(SMALL), Digest.of(ABSENT)]) == {Digest.of(ABSENT)}


def test_a_blob_that_is_not_there_is_a_key_error(server: Server) -> None:
    with pytest.raises(KeyError):
        read(client(server), ABSENT)


def test_a_passing_fault_is_tried_again(server: Server) -> None:
    cache = client(server)
    write(cache, LARGE)
    server.broken = 2

    assert read(cache, LARGE) == LARGE


def test_a_fault_that_stays_is_an_error(server: Server) -> None:
    server.broken = 99
    with pytest.raises(RemoteError, match="3 attempts"):
        client(server).result(KEY)


def test_more_bytes_than_expected_are_an_error(server: Server) -> None:
    cache = client(server)
    write(cache, LARGE)
    damage(server, LARGE, LARGE * 2)

    with pytest.raises(RemoteError, match="more than"):
        read(cache, LARGE)


def test_a_server_that_does_not_answer_in_time_is_an_error_at_once(server: Server) -> None:
    server.slow = 1.0
    with pytest.raises(RemoteError):
        client(server, timeout=0.2).missing([Digest.of(SMALL)])

    assert len(server.log) == 1


def test_who_may_only_read_is_told_so(server: Server) -> None:
    server.read_only = True
    with pytest.raises(RemoteRefused):
        write(client(server), SMALL)
    with pytest.raises(RemoteRefused):
        client(server).put_result(KEY, b"\x12\x00")


@pytest.mark.parametrize("port", ["9", "1"])
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_at_an_address_is_an_error(scheme: str, port: str) -> None:
    kind = HttpCache if scheme == "http" else GrpcCache
    cache = kind(RemoteSettings(f"{scheme}://127.0.0.1:{port}", timeout=2.0), {}, sleep=Wait())

    with pytest.raises(RemoteError):
        cache.result(KEY)


def test_a_token_is_a_header_of_each_call(server: Server) -> None:
    if isinstance(server, HttpCacheServer):
        server.login = "secret"
    else:
        server.token = "Bearer secret"
    cache = client(server, headers=(("authorization", "Bearer secret"),))
    write(cache, SMALL)

    assert read(cache, SMALL) == SMALL
    with pytest.raises(RemoteRefused):
        client(server).missing([Digest.of(SMALL)])


def test_a_broken_stream_goes_on_where_it_broke_off() -> None:
    with GrpcCacheServer(breaks_after=2000, breaks=2).running() as server:
        server.blobs[Digest.of(LARGE).hash] = LARGE

        assert read(client(server), LARGE) == LARGE


def test_what_was_written_before_a_break_is_not_sent_again() -> None:
    blob = LARGE * 300
    with GrpcCacheServer(breaks_after=1 << 20, breaks=1).running() as server:
        write(client(server), blob)

        assert server.blobs[Digest.of(blob).hash] == blob
        assert server.received == len(blob)


def test_an_instance_is_named_in_each_call() -> None:
    with GrpcCacheServer(instance="team/main").running() as server:
        cache = client(server, instance="team/main")
        write(cache, SMALL)
        write(cache, LARGE)

        assert [read(cache, SMALL), read(cache, LARGE)] == [SMALL, LARGE]
        with pytest.raises(RemoteError, match="instance `other`"):
            client(server, instance="other").missing([Digest.of(SMALL)])


def test_a_server_that_takes_no_results_is_not_asked_to() -> None:
    with GrpcCacheServer(may_update=False).running() as server:
        with pytest.raises(RemoteRefused):
            client(server).put_result(KEY, b"\x12\x00")

        assert server.log == ["GetCapabilities"]


def test_a_login_in_the_address_is_basic_and_never_shown() -> None:
    with HttpCacheServer(login="ci:hunter2").running() as server:
        address = server.address.replace("//", "//ci:hunter2@")
        cache = HttpCache(RemoteSettings(address), {}, sleep=Wait())
        write(cache, SMALL)

        assert read(cache, SMALL) == SMALL
        assert "hunter2" not in cache.name + repr(RemoteSettings(address, (("a", "hunter2"),)))


def test_a_login_may_be_netrcs(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ci password hunter2\n")
    with HttpCacheServer(login="ci:hunter2").running() as server:
        cache = HttpCache(RemoteSettings(server.address), {"HOME": str(tmp_path)}, sleep=Wait())
        write(cache, SMALL)

        assert read(cache, SMALL) == SMALL


def test_a_header_stays_behind_when_another_host_is_named() -> None:
    with HttpCacheServer().running() as other, HttpCacheServer(redirect="").running() as server:
        other.put(f"cas/{Digest.of(SMALL).hash}", SMALL)
        server.redirect = other.address.removesuffix("/prefix").replace("127.0.0.1", "localhost")
        cache = client(server, headers=(("x-token", "secret"),))

        assert read(cache, SMALL) == SMALL
        assert "secret" in str(server.headers)
        assert "secret" not in str(other.headers)


@pytest.mark.parametrize("address", ["cache.example", "ftp://cache.example", "grpc://", "http://h:port", "/tmp/cache"])
def test_what_is_no_address_of_a_cache_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="no address of a remote cache"):
        open_remote(RemoteSettings(address), {})


@pytest.mark.parametrize("text", ["secret", "a b=secret", "=secret", "a=sec\nret"])
def test_what_is_no_header_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_headers([text])

    assert "sec" not in str(caught.value)


def test_a_header_keeps_what_stands_behind_its_first_sign() -> None:
    assert parse_headers(["Authorization=Bearer a=="]) == (("authorization", "Bearer a=="),)
