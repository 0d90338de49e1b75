"""Whatever is sent, the server answers it and the next good request."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.fake import Client, FakeBackend, make_config, serving

LIMIT = 4096
JSON = "application/json"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(FakeBackend(), make_config(server={"body_limit": LIMIT})) as client:
        yield client


@pytest.fixture(scope="module")
def roomy() -> Iterator[Client]:
    with serving(FakeBackend()) as client:
        yield client


def is_served(client: Client) -> bool:
    return client.infer("good").json == {"good": "GOOD"}


@pytest.mark.parametrize("content_type", [JSON, ""], ids=["json", "undeclared"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"NaN",
        b"true",
        b"5",
        b'"text"',
        b"\xff\xfe",
        b'{"prompts": ',
        b'{"prompts": []}',
        b'{"prompts": ""}',
        b'{"prompts": [""]}',
        b'{"prompts": null}',
        b'{"prompts": 5}',
        b'{"prompts": [5]}',
        b'{"prompts": [["a"]]}',
        b'{"prompts": {"a": "b"}}',
        b'{"prompts": ["\\ud800"]}',
        b'{"prompts": "a", "gen": {"temperature": NaN}}',
        b'{"prompts": "a", "gen": {"top_p": 1e999, "do_sample": true}}',
        b'{"prompts": "a", "gen": {"seed": 1' + b"0" * 100 + b"}}",
        b'{"prompts": "a", "gen": {"\\ud800": 1}}',
        b'{"prompts": "a", "details": "yes"}',
        b'{"prompts": "a", "prompt": "b"}',
        b'{"prompts": "!long"}',
        b'{"prompts": "a"} {"prompts": "b"}',
    ],
    ids=lambda body: ascii(body[:40]),
)
def test_a_bad_body_is_refused(client: Client, body: bytes, content_type: str) -> None:
    reply = client.post(body, content_type)

    assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")
    assert is_served(client)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"prompts": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"prompts": "a", "gen": {"seed": ' + b"9" * 100_000 + b"}}",
        b'{"prompts": "a", "' + b"k" * 100_000 + b'": 1}',
    ],
    ids=["open", "nested", "objects", "digits", "key"],
)
def test_a_body_that_is_made_to_hurt_is_refused(roomy: Client, body: bytes) -> None:
    reply = roomy.post(body)

    assert reply.status == 400
    assert len(reply.body) < 1000
    assert is_served(roomy)


def test_a_key_given_twice_is_refused(client: Client) -> None:
    assert client.post(b'{"prompts": "a", "prompts": "b"}').error["code"] == "invalid_json"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/infer", 405),
        ("DELETE", "/api/infer", 405),
        ("POST", "/healthz", 405),
        ("POST", "/", 405),
        ("POST", "/api/infer/", 404),
        ("GET", "/%ff/../x", 404),
    ],
)
def test_a_wrong_path_or_method_has_an_error_body(client: Client, method: str, path: str, status: int) -> None:
    reply = client.send(method, path)

    assert (reply.status, reply.error["type"]) == (status, "invalid_request_error")


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "image/png"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": JSON, "content-encoding": "gzip"},
    ],
    ids=str,
)
def test_what_cannot_be_read_is_refused(client: Client, headers: dict[str, str]) -> None:
    assert client.send("POST", "/api/infer", b'{"prompts": "a"}', headers).status == 415


def test_a_body_over_the_limit_is_refused(client: Client) -> None:
    reply = client.infer("a" * LIMIT)

    assert (reply.status, reply.error["code"]) == (413, "body_too_large")
    assert is_served(client)


def test_a_body_at_the_limit_is_served(client: Client) -> None:
    frame = len(json.dumps({"prompts": [""]}))

    assert client.infer("a" * (LIMIT - frame)).status == 200


def test_the_default_limit_is_8_mib(roomy: Client) -> None:
    assert roomy.post(b"a" * (8 * 2**20 + 1), "text/plain").status == 413
    assert is_served(roomy)


def test_a_client_that_will_close_hears_that_its_body_is_too_large(roomy: Client) -> None:
    body = b"a" * (8 * 2**20 + 1)
    reply = roomy.send("POST", "/api/infer", body, {"connection": "close"})

    assert reply.status == 413


def test_an_endless_body_is_refused_before_its_end(client: Client) -> None:
    head = b"POST /api/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"1000\r\n" + b"a" * 0x1000 + b"\r\n"

    assert exchange(client, head + chunk * 2).startswith(b"HTTP/1.1 413 ")
    assert is_served(client)


def test_a_length_over_the_limit_is_refused_before_the_body(client: Client) -> None:
    head = b"POST /api/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n"

    assert exchange(client, head).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "rest",
    [
        b"content-length: -1\r\n\r\n",
        b"content-length: x\r\n\r\n",
        b"content-length: 1\r\ncontent-length: 2\r\n\r\na",
        b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["negative", "word", "two", "chunk"],
)
def test_broken_framing_is_refused(client: Client, rest: bytes) -> None:
    assert exchange(client, b"POST /api/infer HTTP/1.1\r\nhost: x\r\n" + rest)[9:10] in (b"4", b"")
    assert is_served(client)


def test_a_client_that_leaves_within_its_body_is_forgotten(client: Client) -> None:
    with socket.create_connection(("127.0.0.1", client.port)) as peer:
        peer.sendall(b"POST /api/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc")

    assert is_served(client)


def test_a_body_that_does_not_come_times_out() -> None:
    with serving(FakeBackend(), make_config(server={"body_timeout_s": 0.05})) as client:
        head = b"POST /api/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc"

        assert exchange(client, head).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("prompt", ["!raise", "!raise stop", "!raise exit"])
def test_an_exception_of_the_backend_is_answered_and_survived(client: Client, prompt: str) -> None:
    reply = client.infer(prompt)

    assert (reply.status, reply.error["code"]) == (500, "internal_error")
    assert reply.headers["x-request-id"] in str(reply.error["message"])
    assert is_served(client)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
keys = st.sampled_from(["prompts", "gen", "details", "max_length", "seed", "temperature", "x"])
requests = st.dictionaries(keys, values | st.dictionaries(keys, values), max_size=3)
bodies = (
    st.binary(max_size=40)
    | values.map(lambda value: json.dumps(value).encode())
    | requests.map(lambda value: json.dumps(value).encode())
)
types = st.sampled_from([JSON, "", "text/plain", "application/x-www-form-urlencoded"])


@settings(
    max_examples=200,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(body=bodies, content_type=types)
def test_no_body_is_an_error_of_the_server(client: Client, body: bytes, content_type: str) -> None:
    reply = client.post(body, content_type)

    assert reply.status == 200 or (reply.status == 400 and reply.error["message"])


def test_the_next_request_after_the_flood_is_served(client: Client) -> None:
    assert is_served(client)


def exchange(client: Client, data: bytes) -> bytes:
    """Send bytes, then return what comes first, or nothing when the server hangs up."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as peer:
        peer.sendall(data)
        try:
            return peer.recv(4096)
        except ConnectionResetError:
            return b""
