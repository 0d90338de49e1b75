"""Connections: what slow, silent and broken clients cannot do to the others."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import resource
import select
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from forge_runtime.http.connection import ConnectionLimits, Connections, raise_descriptor_limit
from forge_runtime.http.listener import stop_listening
from tests.runtime.fake import wait_for

Scope = dict[str, Any]

LIMITS = ConnectionLimits(
    header_timeout_s=0.2,
    keep_alive_s=0.15,
    discard_timeout_s=0.2,
    write_timeout_s=0.12,
    min_write_rate=2**20,
    max_header_bytes=4096,
    max_headers=20,
)
LONG = ConnectionLimits(max_header_bytes=4096, max_connections=2)
GOOD = b"GET /good HTTP/1.1\r\nhost: x\r\n\r\n"
PIECE = b"." * 65536
BIG = 128
"""Pieces of what is more than the buffers on the way can hold."""


class App:
    """An ASGI application that answers as the path says, and remembers."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self.ended: list[str] = []
        self.gate = threading.Event()
        self.left = threading.Event()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        path = scope["path"]
        self.paths.append(path)
        try:
            await getattr(self, path.strip("/"), self.good)(receive, send)
        finally:
            self.ended.append(path)

    async def good(self, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(body)
        await answer(send, b"good")

    async def early(self, receive: Any, send: Any) -> None:
        await answer(send, b"early")

    async def wait(self, receive: Any, send: Any) -> None:
        while not self.gate.is_set():
            await asyncio.sleep(0.005)
        await answer(send, b"waited")

    async def half(self, receive: Any, send: Any) -> None:
        """Send one half, and the other when the gate is open."""
        headers = [(b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ha", "more_body": True})
        while not self.gate.is_set():
            await asyncio.sleep(0.005)
        await send({"type": "http.response.body", "body": b"lf"})

    async def big(self, receive: Any, send: Any) -> None:
        await answer(send, PIECE * BIG)

    async def stream(self, receive: Any, send: Any) -> None:
        """Send events for ever, as a generation does, until nobody listens."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()
        gone = asyncio.ensure_future(receive())
        while not gone.done():
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            await asyncio.sleep(0)
        assert gone.result() == {"type": "http.disconnect"}
        self.left.set()


async def answer(send: Any, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Server:
    """uvicorn with these connections, in a thread."""

    connections: Connections
    app: App
    refused: list[int]
    port: int
    server: uvicorn.Server
    loop: asyncio.AbstractEventLoop | None = None
    peers: list[socket.socket] = field(default_factory=list)

    def connect(self, data: bytes = b"", *, buffer: int = 0) -> socket.socket:
        peer = socket.socket()
        self.peers.append(peer)
        if buffer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.settimeout(10)
        peer.connect(("127.0.0.1", self.port))
        peer.sendall(data)
        return peer

    def disconnect(self) -> None:
        while self.peers:
            self.peers.pop().close()

    def is_served(self) -> bool:
        peer = self.connect(GOOD)
        return read(peer).body == b"good"

    def is_empty(self) -> bool:
        state = self.server.server_state
        return (self.connections.open, len(state.connections), len(state.tasks)) == (0, 0, 0)

    def is_paused(self) -> bool:
        """Whether somebody sends more than is read."""
        connections = list(self.server.server_state.connections)
        return any(isinstance(one, H11Protocol) and one.flow.read_paused for one in connections)

    def call(self, function: Callable[[], None]) -> None:
        """Run in the server's thread, between two turns of its loop."""
        assert self.loop is not None
        done = threading.Event()
        self.loop.call_soon_threadsafe(function)
        self.loop.call_soon_threadsafe(done.set)
        assert done.wait(10)

    def shutdown(self) -> None:
        """Tell the connections what uvicorn tells them in the end."""
        for connection in list(self.server.server_state.connections):
            connection.shutdown()


@contextlib.contextmanager
def serving(limits: ConnectionLimits | None = None) -> Iterator[Server]:
    app, refused = App(), list[int]()
    connections = Connections(limits, on_refused=refused.append)
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        http=connections.protocol(),
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    server = Server(connections, app, refused, sock.getsockname()[1], uvicorn.Server(config))

    async def serve() -> None:
        server.loop = asyncio.get_running_loop()
        server.loop.set_exception_handler(connections.loop_error)
        await server.server.serve(sockets=[sock])

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        wait_for(lambda: server.server.started)
        yield server
    finally:
        app.gate.set()
        server.disconnect()
        server.server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def hasty() -> Iterator[Server]:
    with serving(LIMITS) as server:
        yield server


@pytest.fixture(scope="module")
def narrow() -> Iterator[Server]:
    with serving(LONG) as server:
        yield server


@pytest.fixture
def server(hasty: Server) -> Iterator[Server]:
    """A server with short deadlines, and nothing left of the test before."""
    yield from fresh(hasty)


@pytest.fixture
def patient(narrow: Server) -> Iterator[Server]:
    """A server with long deadlines and room for two."""
    yield from fresh(narrow)


def fresh(server: Server) -> Iterator[Server]:
    wait_for(server.is_empty)
    app = server.app
    for remembered in (app.paths, app.bodies, app.ended, server.refused):
        remembered.clear()
    app.gate.clear()
    app.left.clear()
    yield server
    app.gate.set()
    server.disconnect()


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> object:
        error = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error["code"]


def read(peer: socket.socket) -> Reply:
    """Read one response with a length, and no byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = peer.recv(1)
        assert byte, f"the server hung up after {head!r}"
        head += byte
    line, *lines = head.decode().strip().split("\r\n")
    headers = dict(text.lower().split(": ", 1) for text in lines)
    body = b""
    while len(body) < int(headers.get("content-length", 0)):
        body += peer.recv(int(headers["content-length"]) - len(body))
    return Reply(int(line.split()[1]), headers, body)


def is_over(peer: socket.socket) -> bool:
    """Wait for the end; False where it is a reset."""
    try:
        while peer.recv(65536):
            pass
    except ConnectionResetError:
        return False
    return True


def test_a_slow_sender_has_one_deadline_for_all_its_bytes(server: Server) -> None:
    slow = [server.connect(b"GET / HTTP/1.1\r\nhost: ") for _ in range(100)]
    waiting, replies = set(slow), []
    while waiting:
        answered, _, _ = select.select(waiting, [], [], 0.02)  # the pace of the bytes
        for peer in answered:
            waiting.discard(peer)
            replies.append(read(peer))
        for peer in waiting:
            peer.send(b"a")
        assert server.is_served()

    assert {(408, "header_timeout", "close")} == {(r.status, r.code, r.headers["connection"]) for r in replies}
    assert server.app.paths == ["/good"] * len(server.app.paths)
    assert server.refused == [408] * 100


def test_who_says_nothing_is_told_nothing(server: Server) -> None:
    peer = server.connect()

    assert peer.recv(1) == b""
    assert server.refused == []


def test_the_deadline_of_headers_holds_for_a_later_request(server: Server) -> None:
    peer = server.connect(GOOD)
    read(peer)
    peer.sendall(GOOD[:-2])

    assert read(peer).code == "header_timeout"


def test_the_deadline_of_headers_holds_for_what_came_with_another_request(server: Server) -> None:
    peer = server.connect(GOOD + GOOD[:-2])
    read(peer)

    assert read(peer).code == "header_timeout"


def test_a_connection_is_kept_for_a_while(server: Server) -> None:
    peer = server.connect()
    for _ in range(3):
        peer.sendall(GOOD)
        read(peer)

    assert is_over(peer)
    assert server.app.paths == ["/good"] * 3


HEAD = b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n"


def test_a_body_that_nobody_waits_for_has_a_deadline(server: Server) -> None:
    peer = server.connect(HEAD)
    read(peer)
    sent = 0
    with contextlib.suppress(ConnectionError):
        while not server.is_empty() and sent < 8:
            peer.send(b"a")
            sent += 1
            time.sleep(0.06)  # the pace of the bytes
    wait_for(server.is_empty)

    assert sent < 8


def test_a_body_that_nobody_waited_for_ends_as_any(server: Server) -> None:
    peer = server.connect(HEAD)
    read(peer)
    peer.sendall(b"123456789" + GOOD)

    assert read(peer).body == b"good"


def test_after_a_body_that_nobody_waited_for_a_connection_is_kept_for_a_while(server: Server) -> None:
    """uvicorn keeps it for ever."""
    peer = server.connect(HEAD)
    read(peer)
    peer.sendall(b"123456789")

    assert is_over(peer)


def test_who_does_not_read_a_stream_is_gone_for_the_application(server: Server) -> None:
    server.connect(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n", buffer=4096)

    assert server.app.left.wait(5)
    wait_for(server.is_empty)
    assert server.app.ended == ["/stream"]


@pytest.mark.parametrize("connection", [b"close", b"keep-alive"])
def test_who_does_not_read_what_was_sent_is_hung_up_on(server: Server, connection: bytes) -> None:
    server.connect(b"GET /big HTTP/1.1\r\nhost: x\r\nconnection: " + connection + b"\r\n\r\n", buffer=4096)
    wait_for(lambda: server.app.ended == ["/big"])

    wait_for(server.is_empty)


@pytest.mark.parametrize("step", [1, 12288])
def test_who_reads_too_slowly_is_hung_up_on(server: Server, step: int) -> None:
    peer = server.connect(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n", buffer=16384)
    taken = 0
    with contextlib.suppress(ConnectionResetError):
        while not server.app.ended or not server.is_empty():
            taken += len(peer.recv(step))
            time.sleep(0.02)  # the pace of the bytes

    assert 0 < taken < 100 * step


def test_who_reads_slowly_gets_everything(server: Server) -> None:
    peer = server.connect(b"GET /big HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", buffer=32768)
    end, taken = time.monotonic() + LIMITS.write_timeout_s * 3, 0
    while time.monotonic() < end:
        taken += len(peer.recv(32768))
        time.sleep(0.002)  # the pace of the bytes
    slowly = taken
    while piece := peer.recv(2**20):
        taken += len(piece)

    assert slowly < BIG * len(PIECE) < taken


def test_who_leaves_while_it_is_sent_a_stream_is_gone_at_once(patient: Server) -> None:
    peer = patient.connect(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n", buffer=4096)
    peer.recv(10)
    # The end alone, without the reset that closing with bytes unread would be.
    peer.shutdown(socket.SHUT_WR)

    assert patient.app.left.wait(5)


POST = b"POST /good HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n"
MALFORMED = {
    "no request": (b"\r\n\r\n", 400),
    "no method": (b" / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/9.9": (b"GET / HTTP/9.9\r\nhost: x\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
    "NUL in a path": (b"GET /\0 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "NUL in a name": (b"GET / HTTP/1.1\r\nhost: x\r\na\0: b\r\n\r\n", 400),
    "NUL in a value": (b"GET / HTTP/1.1\r\nhost: x\r\na: \0\r\n\r\n", 400),
    "space in a path": (b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "space before a colon": (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
    "space before a header": (b"GET / HTTP/1.1\r\n host: x\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\nhost\r\n\r\n", 400),
    "not ASCII": ("GET /grüße HTTP/1.1\r\nhost: x\r\n\r\n".encode(), 400),
    "negative length": (POST + b"content-length: -1\r\n\r\n", 400),
    "signed length": (POST + b"content-length: +1\r\n\r\na", 400),
    "length in words": (POST + b"content-length: nine\r\n\r\n", 400),
    "two lengths": (POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\na", 400),
    "a list of lengths": (POST + b"content-length: 1, 2\r\n\r\na", 400),
    "length of 30 digits": (POST + b"content-length: " + b"9" * 30 + b"\r\n\r\n", 400),
    "length and coding": (CHUNKED + b"content-length: 4\r\n\r\n0\r\n\r\n" + GOOD, 400),
    "coding of HTTP/1.0": (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "another coding": (POST + b"transfer-encoding: gzip\r\n\r\n", 400),
    "two codings": (POST + b"transfer-encoding: gzip, chunked\r\n\r\n", 400),
    "coding twice": (CHUNKED + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunk without a size": (CHUNKED + b"\r\nzz\r\n", 400),
    "negative chunk": (CHUNKED + b"\r\n-1\r\n", 400),
    "chunk of 30 digits": (CHUNKED + b"\r\n" + b"f" * 30 + b"\r\n", 400),
    "chunk that is longer": (CHUNKED + b"\r\n1\r\nabc\r\n", 400),
    "chunk extension without end": (CHUNKED + b"\r\n1;" + b"a" * 5000, 400),
    "broken trailer": (CHUNKED + b"\r\n0\r\n\0\r\n\r\n", 400),
    "long path": (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 431),
    "long path without end": (b"GET /" + b"a" * 5000, 431),
    "long header": (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"a" * 5000 + b"\r\n\r\n", 431),
    "many headers": (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 20 + b"\r\n", 431),
}


@pytest.mark.parametrize(("data", "status"), MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_request_is_refused(
    server: Server, caplog: pytest.LogCaptureFixture, data: bytes, status: int
) -> None:
    peer = server.connect(data)
    reply = read(peer)

    assert (reply.status, reply.headers["content-type"]) == (status, "application/json")
    assert reply.code
    assert len(reply.headers["x-request-id"]) == 32
    assert is_over(peer)
    assert server.refused == [status]
    assert server.app.bodies == []
    assert server.is_served()
    assert caplog.records == []


@pytest.mark.parametrize(
    "lines",
    [
        b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n",
        b"upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABk\r\n",
        b"a: b\r\n c\r\n",
    ],
    ids=["websocket", "h2c", "folded"],
)
def test_what_may_be_ignored_is(server: Server, caplog: pytest.LogCaptureFixture, lines: bytes) -> None:
    peer = server.connect()
    for _ in range(2):
        peer.sendall(GOOD[:-2] + lines + b"\r\n")

        assert read(peer).body == b"good"
    assert caplog.records == []


def test_a_body_that_breaks_is_a_disconnect_for_the_application(patient: Server) -> None:
    peer = patient.connect(CHUNKED + b"\r\n1\r\na\r\n")
    wait_for(lambda: patient.app.paths == ["/good"])
    peer.sendall(b"zz\r\n")

    assert read(peer).code == "bad_request"
    assert patient.app.left.wait(0.5)  # before the connection has ended


def test_a_body_that_breaks_under_a_response_ends_it(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    peer = server.connect(CHUNKED.replace(b"good", b"stream") + b"\r\n")
    peer.recv(1)
    peer.sendall(b"zz\r\n")

    assert is_over(peer)
    assert server.app.left.wait(5)
    assert server.refused == []
    assert caplog.records == []


def test_a_body_that_breaks_after_its_response_ends_the_connection(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    peer = server.connect(CHUNKED.replace(b"good", b"early") + b"\r\n")
    read(peer)
    peer.sendall(b"zz\r\n")

    assert peer.recv(1) == b""
    assert caplog.records == []


def test_who_is_refused_can_send_all_before_it_reads(patient: Server) -> None:
    peer = patient.connect(POST + b"a: " + b"a" * 5000 + b"\r\ncontent-length: 8388608\r\n\r\n")
    peer.sendall(PIECE * 128)

    assert read(peer).code == "headers_too_large"


def test_who_is_answered_too_early_can_send_all_before_it_reads(patient: Server) -> None:
    head = b"POST /wait HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 8388608\r\n\r\n"
    peer = patient.connect(head)
    sent = threading.Event()

    def send() -> None:
        peer.sendall(PIECE * 128)
        sent.set()

    threading.Thread(target=send).start()
    wait_for(patient.is_paused)
    patient.app.gate.set()

    assert sent.wait(5)
    assert read(peer).body == b"waited"
    assert is_over(peer)


def test_a_body_that_is_announced_is_asked_for(server: Server) -> None:
    peer = server.connect(POST + b"content-length: 4\r\nexpect: 100-continue\r\n\r\n")
    asked = read(peer)
    peer.sendall(b"body")

    assert (asked.status, read(peer).status) == (100, 200)
    assert server.app.bodies == [b"body"]


def test_after_an_answer_instead_of_asking_for_the_body_no_request_may_follow(server: Server) -> None:
    peer = server.connect(HEAD[:-2] + b"expect: 100-continue\r\n\r\n")

    assert read(peer).headers["connection"] == "close"
    assert is_over(peer)


def test_what_is_sent_does_not_wait_for_what_was_sent_to_be_confirmed(server: Server) -> None:
    """Headers and body are two writes; without `TCP_NODELAY` the second waits for a client's delayed ACK."""
    peer, seconds = server.connect(), []
    for _ in range(9):
        started = time.monotonic()
        peer.sendall(GOOD)
        read(peer)
        seconds.append(time.monotonic() - started)

    assert statistics.median(seconds) < 0.03


def test_requests_sent_at_once_are_answered_in_their_order(server: Server) -> None:
    peer = server.connect(GOOD + HEAD + b"123456789" + GOOD)

    assert [read(peer).body for _ in range(3)] == [b"good", b"early", b"good"]
    assert server.app.paths == ["/good", "/early", "/good"]


WAIT = b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n"


def test_one_connection_too_many_is_told_when_to_come_again(patient: Server) -> None:
    peers = [patient.connect(WAIT), patient.connect(WAIT)]
    wait_for(lambda: len(patient.app.paths) == 2)
    reply = read(patient.connect(GOOD))

    assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "too_many_connections", "1")
    assert patient.refused == [503]
    patient.app.gate.set()
    assert [read(peer).body for peer in peers] == [b"waited", b"waited"]
    assert len(patient.app.paths) == 2


def test_so_many_too_many_are_told_nothing(patient: Server) -> None:
    for _ in range(2):
        patient.connect(WAIT)
    wait_for(lambda: len(patient.app.paths) == 2)
    peers = [patient.connect() for _ in range(70)]

    assert [True] * 64 + [False] * 6 == [is_told(peer) for peer in peers]


def is_told(peer: socket.socket) -> bool:
    with contextlib.suppress(ConnectionResetError):
        return peer.recv(1) != b""
    return False


def test_the_connection_that_is_idle_the_longest_makes_room(patient: Server) -> None:
    old, young = patient.connect(GOOD), patient.connect()
    read(old)
    young.sendall(GOOD)
    read(young)

    assert patient.is_served()
    assert is_over(old)
    young.sendall(GOOD)
    assert read(young).status == 200


@pytest.mark.parametrize(("descriptors", "room"), [(65536, 4096), (1024, 768), (300, 150)])
def test_descriptors_are_left_for_other_things(descriptors: int, room: int) -> None:
    assert Connections(descriptors=descriptors).room == room


def test_the_limit_of_descriptors_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    expected = 2048 if hard == resource.RLIM_INFINITY else min(2048, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, soft), hard))
    try:
        raised = raise_descriptor_limit(2048)
        found = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (raised, found) == (expected, (expected, hard))


def test_a_lack_of_descriptors_is_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    connections, loop = Connections(), asyncio.new_event_loop()
    context = {"message": "accept", "exception": OSError(errno.EMFILE, "Too many open files")}
    retry = {"message": "Exception in callback BaseSelectorEventLoop._start_serving(...)"}
    for _ in range(2048):
        connections.loop_error(loop, context)
        connections.loop_error(loop, retry)
    connections.loop_error(loop, {"message": "Another error"})
    loop.close()

    assert [record.getMessage() for record in caplog.records] == [
        "Cannot accept connections: Too many open files",
        "Another error",
    ]


def test_while_it_drains_each_response_is_the_last() -> None:
    with serving() as server:
        kept, waiting = server.connect(GOOD), server.connect(WAIT)
        read(kept)
        wait_for(lambda: "/wait" in server.app.paths)
        server.connections.drain()
        server.app.gate.set()
        kept.sendall(GOOD)

        for peer in (kept, waiting, server.connect(GOOD)):
            reply = read(peer)
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert is_over(peer)


def test_in_the_end_what_is_idle_is_closed_and_what_is_not_is_answered() -> None:
    with serving() as server:
        idle, silent = server.connect(GOOD), server.connect()
        read(idle)
        busy = [server.connect(WAIT), server.connect(WAIT.replace(b"wait", b"half"))]
        wait_for(lambda: {"/wait", "/half"} < set(server.app.paths))
        busy[1].recv(1, socket.MSG_PEEK)  # the headers are out
        server.server.should_exit = True

        assert (idle.recv(1), silent.recv(1)) == (b"", b"")
        server.app.gate.set()
        replies = [read(peer) for peer in busy]
        assert [reply.body for reply in replies] == [b"waited", b"half"]
        assert [reply.headers.get("connection") for reply in replies] == ["close", None]
        assert [is_over(peer) for peer in busy] == [True, True]


def test_a_request_that_arrives_in_the_last_moment_is_answered() -> None:
    with serving() as server:
        peer = server.connect(GOOD)
        read(peer)

        def arrive_and_end() -> None:
            peer.sendall(GOOD)
            server.shutdown()

        server.call(arrive_and_end)

        assert read(peer).headers["connection"] == "close"


def test_a_request_that_comes_after_the_end_is_not_reset() -> None:
    with serving() as server:
        peer = server.connect(GOOD)
        read(peer)
        server.call(server.shutdown)
        peer.recv(1, socket.MSG_PEEK)  # the end has come
        peer.sendall(GOOD)

        assert is_over(peer)


def test_what_is_not_yet_read_in_the_end_arrives() -> None:
    with serving() as server:
        peer = server.connect(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n", buffer=65536)
        wait_for(lambda: server.app.ended == ["/big"])
        server.call(server.shutdown)
        server.server.should_exit = True

        assert len(read(peer).body) == BIG * len(PIECE)
        assert is_over(peer)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_in_the_end_who_waits_to_be_accepted_is_and_nobody_else(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip("no IPv6 here")
    with listener, socket.create_connection(listener.getsockname()[:2]) as early:
        stop_listening(listener)
        with pytest.raises(TimeoutError):
            socket.create_connection(listener.getsockname()[:2], timeout=0.05)
        early.sendall(GOOD)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(4096) == GOOD
