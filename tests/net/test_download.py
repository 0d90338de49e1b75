"""Downloads against a server that speaks HTTP on this machine, well and badly."""

from __future__ import annotations

import base64
import fcntl
import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from forge.core.digest import Digest
from forge.net.connection import Connection, Known, Missing, Unavailable
from forge.net.download import Downloader
from tests.fakes.store import MemoryStore

BODY = bytes(range(256)) * 8192
DIGEST = Digest.of(BODY)

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Site:
    """A web server on this machine: files, and answers that are given once before them."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    log: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def asked(self, path: str) -> list[dict[str, str]]:
        """Headers of the requests for `path`."""
        return [headers for _, each, headers in self.log if each == path]


@contextmanager
def open_site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            here.log.append((self.command, self.path, {key.lower(): value for key, value in self.headers.items()}))
            if script := here.answers.get(self.path):
                script.pop(0)(self)
            elif self.path in here.files:
                ranged(here.files[self.path], here.types.get(self.path, ""))(self)
            else:
                status(404)(self)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    here = Site(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()


def ranged(body: bytes, content_type: str = "") -> Answer:
    """Serve as a good server does."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        begin, wanted = 0, handler.headers.get("Range", "")
        if wanted:
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
        handler.send_response(206 if wanted else 200)
        if wanted:
            handler.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        if content_type:
            handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(body) - begin))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body[begin:])

    return answer


def status(code: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def without_range(body: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        del handler.headers["Range"]
        ranged(body)(handler)

    return answer


def cut(body: bytes, after: int) -> Answer:
    """Promise all of `body`, give `after` bytes of it, and hang up."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:after])
        handler.close_connection = True

    return answer


def stalled(seconds: float) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return answer


def endless(sent: list[int]) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        while True:
            sent.append(handler.wfile.write(b"x" * 65536))

    return answer


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    with open_site() as found:
        found.files["/file"] = BODY
        yield found


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@functools.cache
def shared_client() -> httpx2.Client:
    """One for all tests: to read the certificates that none of them needs takes long."""
    return httpx2.Client(timeout=5.0, trust_env=False)


def downloader(folder: Path | None = None, *, attempts: int = 5, slept: list[float] | None = None) -> Downloader:
    waits = [] if slept is None else slept
    return Downloader(folder, connection=Connection({}, client=shared_client()), sleep=waits.append, attempts=attempts)


def test_a_file_comes_into_the_store(site: Site, store: MemoryStore, tmp_path: Path) -> None:
    done: list[int] = []
    downloader(tmp_path).into(f"{site.address}/file", DIGEST, store, progress=done.append)

    assert store.blobs == {DIGEST: BODY}
    assert done[0] == 0
    assert done[-1] == DIGEST.size
    assert list(tmp_path.iterdir()) == []


def test_a_broken_connection_is_continued_with_range(site: Site, store: MemoryStore, tmp_path: Path) -> None:
    site.answers["/file"] = [cut(BODY, 1_000_000)]
    downloader(tmp_path).into(f"{site.address}/file", DIGEST, store)

    assert [each.get("range") for each in site.asked("/file")] == [None, "bytes=1000000-"]
    assert store.blobs == {DIGEST: BODY}


def test_it_is_continued_without_a_partial_folder_too(site: Site, store: MemoryStore) -> None:
    site.answers["/file"] = [cut(BODY, 1_000_000)]
    downloader().into(f"{site.address}/file", DIGEST, store)

    assert [each.get("range") for each in site.asked("/file")] == [None, "bytes=1000000-"]
    assert store.blobs == {DIGEST: BODY}


def test_the_next_run_continues_what_the_last_one_left(site: Site, store: MemoryStore, tmp_path: Path) -> None:
    site.answers["/file"] = [cut(BODY, 700_000)]
    with pytest.raises(Unavailable, match="connection broke"):
        downloader(tmp_path, attempts=1).into(f"{site.address}/file", DIGEST, store)
    done: list[int] = []
    downloader(tmp_path).into(f"{site.address}/file", DIGEST, store, progress=done.append)

    assert site.asked("/file")[-1]["range"] == "bytes=700000-"
    assert done[0] == 700_000
    assert store.blobs == {DIGEST: BODY}


def test_a_partial_file_that_is_complete_needs_no_request(site: Site, store: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / DIGEST.hash).write_bytes(BODY)
    downloader(tmp_path).into(f"{site.address}/file", DIGEST, store)

    assert site.log == []
    assert store.blobs == {DIGEST: BODY}


@pytest.mark.parametrize("left", [b"rubbish", b"r" * len(BODY), b"r" * (len(BODY) + 1)], ids=["short", "full", "long"])
def test_a_partial_file_with_wrong_bytes_costs_one_more_attempt(
    site: Site, store: MemoryStore, tmp_path: Path, left: bytes
) -> None:
    (tmp_path / DIGEST.hash).write_bytes(left)
    downloader(tmp_path).into(f"{site.address}/file", DIGEST, store)

    assert store.blobs == {DIGEST: BODY}


def test_a_server_that_ignores_range_makes_it_begin_again(site: Site, store: MemoryStore, tmp_path: Path) -> None:
    site.answers["/file"] = [cut(BODY, 1_000_000), without_range(BODY), without_range(BODY)]
    downloader(tmp_path).into(f"{site.address}/file", DIGEST, store)

    assert store.blobs == {DIGEST: BODY}


def test_a_server_that_ignores_range_and_always_breaks_is_given_up(site: Site, store: MemoryStore) -> None:
    site.answers["/file"] = [cut(BODY, 5000)] * 50
    with pytest.raises(Unavailable, match="3 attempts"):
        downloader(attempts=3).into(f"{site.address}/file", DIGEST, store)

    assert len(site.asked("/file")) <= 6


def test_a_partial_file_in_use_elsewhere_is_left_alone(site: Site, store: MemoryStore, tmp_path: Path) -> None:
    with (tmp_path / DIGEST.hash).open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        downloader(tmp_path).into(f"{site.address}/file", DIGEST, store)

    assert store.blobs == {DIGEST: BODY}
    assert (tmp_path / DIGEST.hash).read_bytes() == b""


def test_wrong_bytes_are_refused_and_not_kept(site: Site, store: MemoryStore, tmp_path: Path) -> None:
    site.files["/file"] = BODY[::-1]
    with pytest.raises(Unavailable, match=DIGEST.hash):
        downloader(tmp_path).into(f"{site.address}/file", DIGEST, store)

    assert store.blobs == {}
    assert list(tmp_path.iterdir()) == []
    assert len(site.log) == 1


def test_another_length_is_refused_before_the_bytes_come(site: Site, store: MemoryStore, tmp_path: Path) -> None:
    site.files["/file"] = BODY + b"x"
    with pytest.raises(Unavailable, match=f"Has {DIGEST.size + 1} bytes where {DIGEST.size} are expected"):
        downloader(tmp_path).into(f"{site.address}/file", DIGEST, store)

    assert store.blobs == {}


def test_an_endless_body_is_cut_off(site: Site, store: MemoryStore, tmp_path: Path) -> None:
    sent: list[int] = []
    site.answers["/file"] = [endless(sent)]
    with pytest.raises(Unavailable, match="more than the expected"):
        downloader(tmp_path).into(f"{site.address}/file", DIGEST, store)

    assert sum(sent) < DIGEST.size + (32 << 20)
    assert list(tmp_path.iterdir()) == []


def test_an_endless_page_is_cut_off(site: Site) -> None:
    site.answers["/page"] = [endless([])]
    with pytest.raises(Unavailable, match="more than 100000 bytes"):
        downloader().read(f"{site.address}/page", limit=100_000)


def test_a_busy_server_is_asked_again_later_and_later(site: Site, store: MemoryStore) -> None:
    slept: list[float] = []
    site.answers["/file"] = [status(503), status(502), status(429, Retry_After="7"), status(500)]
    downloader(slept=slept).into(f"{site.address}/file", DIGEST, store)

    assert slept == [0.5, 1.0, 7.0, 4.0]
    assert store.blobs == {DIGEST: BODY}


def test_retry_after_may_be_a_date_and_is_bounded(site: Site) -> None:
    slept: list[float] = []
    site.answers["/file"] = [
        status(429, Retry_After="Fri, 01 Jan 2100 00:00:00 GMT"),
        status(503, Retry_After="soon"),
    ]
    downloader(slept=slept).read(f"{site.address}/file")

    assert slept == [30.0, 1.0]


def test_a_server_that_stays_busy_is_given_up(site: Site, store: MemoryStore) -> None:
    site.answers["/file"] = [status(503)] * 9
    with pytest.raises(Unavailable, match=r"HTTP 503 Service Unavailable \(3 attempts\)"):
        downloader(attempts=3).into(f"{site.address}/file", DIGEST, store)

    assert len(site.log) == 3


@pytest.mark.parametrize(("code", "kind"), [(404, Missing), (410, Missing), (403, Unavailable), (401, Unavailable)])
def test_a_refusal_is_not_asked_again(site: Site, store: MemoryStore, code: int, kind: type[Exception]) -> None:
    site.answers["/file"] = [status(code)]
    with pytest.raises(kind, match=f"HTTP {code}"):
        downloader().into(f"{site.address}/file", DIGEST, store)

    assert len(site.log) == 1


def test_a_server_that_says_nothing_is_asked_again(site: Site, store: MemoryStore) -> None:
    site.answers["/file"] = [stalled(1.0)]
    connection = Connection({}, timeout=0.1)
    Downloader(connection=connection, sleep=lambda seconds: None).into(f"{site.address}/file", DIGEST, store)
    connection.close()

    assert store.blobs == {DIGEST: BODY}


def test_a_host_that_cannot_be_reached_is_given_up_once_for_all() -> None:
    slept: list[float] = []
    client = downloader(attempts=3, slept=slept)
    for path in ("one", "two"):
        with pytest.raises(Unavailable, match="Cannot connect"):
            client.read(f"http://127.0.0.1:1/{path}")

    assert len(slept) == 2


def test_credentials_in_the_address_stay_on_their_host(site: Site, store: MemoryStore) -> None:
    with open_site() as other:
        other.files["/file"] = BODY
        site.answers["/a"] = [status(302, Location="/b")]
        site.answers["/b"] = [status(307, Location=f"{other.address}/file")]
        secret = site.address.replace("//", "//user:p%40ss@")
        downloader().into(f"{secret}/a", DIGEST, store)

        basic = "Basic " + base64.b64encode(b"user:p@ss").decode()
        assert site.asked("/a")[0]["authorization"] == basic
        assert site.asked("/b")[0]["authorization"] == basic
        assert "authorization" not in other.asked("/file")[0]


def test_a_token_stays_on_its_host(site: Site, store: MemoryStore) -> None:
    with open_site() as other:
        other.files["/file"] = BODY
        site.answers["/a"] = [status(302, Location=f"{other.address}/file")]
        downloader().into(f"{site.address}/a", DIGEST, store, login=Known.bearer("t0ken"))

        assert site.asked("/a")[0]["authorization"] == "Bearer t0ken"
        assert "authorization" not in other.asked("/file")[0]


def test_netrc_gives_the_login(site: Site, store: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    connection = Connection({"HOME": str(tmp_path)})
    Downloader(connection=connection).into(f"{site.address}/file", DIGEST, store)

    assert site.asked("/file")[0]["authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()


def test_a_netrc_that_cannot_be_read_gives_none(site: Site, store: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine machine machine")
    connection = Connection({"NETRC": str(tmp_path / "netrc")})
    Downloader(connection=connection).into(f"{site.address}/file", DIGEST, store)

    assert "authorization" not in site.asked("/file")[0]


def test_a_redirect_from_https_to_http_is_refused() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(302, headers={"Location": f"http://u:secret@{request.url.host}/x"})

    client = httpx2.Client(transport=httpx2.MockTransport(answer))
    with pytest.raises(Unavailable, match=r"from https to `http://\*\*\*@example.invalid/x`"):
        Downloader(connection=Connection({}, client=client)).read("https://example.invalid/x")


def test_a_ring_of_redirects_ends(site: Site) -> None:
    site.answers["/a"] = [status(302, Location="/a")] * 50
    with pytest.raises(Unavailable, match="more than 10 times"):
        downloader().read(f"{site.address}/a")


def test_a_proxy_of_the_environment_is_used(site: Site, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", site.address)
    site.files["http://example.invalid/file"] = BODY
    Downloader(connection=Connection({})).into("http://example.invalid/file", DIGEST, store)

    assert store.blobs == {DIGEST: BODY}


def test_the_size_is_asked_without_the_body(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BODY)
    client = downloader()

    assert client.size(f"{site.address}/file") == client.size(str(tmp_path / "file")) == DIGEST.size
    assert [method for method, _, _ in site.log] == ["HEAD"]


@pytest.mark.parametrize("form", [str, Path.as_uri], ids=["path", "file URL"])
def test_a_file_of_this_machine_is_copied(store: MemoryStore, tmp_path: Path, form: Callable[[Path], str]) -> None:
    file = tmp_path / "a file+1"
    file.write_bytes(BODY)
    downloader().into(form(file), DIGEST, store)

    assert store.blobs == {DIGEST: BODY}


@pytest.mark.parametrize("body", [BODY[:-1], BODY + b"x", BODY[::-1]], ids=["short", "long", "other"])
def test_a_wrong_file_of_this_machine_is_refused(store: MemoryStore, tmp_path: Path, body: bytes) -> None:
    (tmp_path / "file").write_bytes(body)
    with pytest.raises(Unavailable):
        downloader().into(str(tmp_path / "file"), DIGEST, store)

    assert store.blobs == {}


def test_a_file_that_is_not_there_is_missing(store: MemoryStore, tmp_path: Path) -> None:
    with pytest.raises(Missing):
        downloader().into(str(tmp_path / "file"), DIGEST, store)
    with pytest.raises(Missing):
        downloader().read(str(tmp_path / "file"))
