from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from forge_client.address import Address
from forge_client.connection import Connection, Message, Response, Timeouts
from forge_client.error import RequestFailed, UsageFault
from tests.client.fake import CHUNKED, QUICK, Asked, Reply, chunk, head, reply, serving, stream, unused_port

HASTY = Timeouts(connect=0.2, first_byte=0.06, total=0.12)


def exchange(
    url: str, *, timeouts: Timeouts = QUICK, times: int = 1, sink: Callable[[bytes, float], None] | None = None
) -> list[Response]:
    """Send the same request over one connection, a few times."""

    async def run() -> list[Response]:
        address = Address.parse(url)
        connection = Connection(address, timeouts)
        message = Message.make(address, "POST", "/x", body=b"{}", headers=[("X-Own", "1")])
        try:
            return [await connection.exchange(message, sink) for _ in range(times)]
        finally:
            connection.close()

    return asyncio.run(run())


def failure(script: Callable[[Asked], Reply], timeouts: Timeouts = QUICK) -> RequestFailed:
    """What is raised where a server does this."""
    with serving(script) as fake, pytest.raises(RequestFailed) as error:
        exchange(fake.url, timeouts=timeouts)
    return error.value


def test_requests_follow_each_other_over_one_connection() -> None:
    with serving(lambda asked: reply(b"yes")) as fake:
        found = exchange(fake.url, times=3)

    assert [(200, b"yes")] * 3 == [(each.status, each.body) for each in found]
    assert (1, 3) == (fake.connections, len(fake.asked))


def test_says_where_it_goes_and_what_it_brings() -> None:
    with serving(lambda asked: reply()) as fake:
        exchange(f"{fake.url}/below/")
    (asked,) = fake.asked

    assert ("POST", "/below/x", b"{}") == (asked.method, asked.path, asked.body)
    assert (f"127.0.0.1:{fake.port}", "application/json", "1") == tuple(
        asked.headers[name] for name in ("host", "content-type", "x-own")
    )


def test_a_server_that_hangs_up_after_its_answer_is_called_again() -> None:
    with serving(
        lambda asked: Reply(((0, head(200, {"content-length": "1", "connection": "close"}) + b"a"),), "hang up")
    ) as fake:
        found = exchange(fake.url, times=2)

    assert [b"a", b"a"] == [each.body for each in found]
    assert 2 == fake.connections


def test_a_connection_that_was_closed_while_idle_is_made_anew() -> None:
    """That is no failure, and no retry."""

    async def run(url: str) -> list[bytes]:
        address = Address.parse(url)
        connection = Connection(address, QUICK)
        message = Message.make(address, "GET", "/")
        first = await connection.exchange(message)
        while connection.is_open:
            await asyncio.sleep(0.001)
        second = await connection.exchange(message)
        connection.close()
        return [first.body, second.body]

    with serving(lambda asked: Reply(((0, head(200, {"content-length": "1"}) + b"a"),), "hang up")) as fake:
        assert [b"a", b"a"] == asyncio.run(run(fake.url))


def test_a_body_comes_in_chunks_or_until_the_end() -> None:
    chunked = Reply(((0, head(200, {"transfer-encoding": "chunked"}) + chunk(b"ab")), (0.01, chunk(b"c") + chunk(b""))))
    for script in (chunked, Reply(((0, head(200) + b"abc"),), "hang up")):
        with serving(lambda asked, script=script: script) as fake:  # type: ignore[misc]
            (found,) = exchange(fake.url)

        assert b"abc" == found.body


def test_any_status_is_an_answer() -> None:
    with serving(lambda asked: reply(b"no", 503, headers={"Retry-After": "7"})) as fake:
        (found,) = exchange(fake.url)

    assert (503, b"no", "7", 7.0) == (found.status, found.body, found.header("retry-after"), found.retry_after())


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0", 0.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None), ("-1", None), ("", None)],
)
def test_retry_after_is_seconds_or_a_date(value: str, expected: float | None) -> None:
    assert expected == Response(429, [(b"retry-after", value.encode())], b"").retry_after()


def test_events_come_as_they_are_sent() -> None:
    pieces: list[tuple[bytes, float]] = []
    with serving(lambda asked: stream(["a", "b"], gap=0.05)) as fake:
        (found,) = exchange(fake.url, sink=lambda piece, at: pieces.append((piece, at)))

    assert b"" == found.body
    assert b"data: a\n\ndata: b\n\n" == b"".join(piece for piece, _ in pieces)
    assert pieces[-1][1] - pieces[0][1] >= 0.04


@pytest.mark.parametrize(
    ("script", "timeouts", "kind", "unanswered"),
    [
        (Reply((), "hang up"), QUICK, "reset", True),
        (Reply((), "reset"), QUICK, "reset", True),
        (Reply((), "hold"), HASTY, "first_byte_timeout", False),
        (Reply(((0, b"HTTP/1.1 200"),), "hold"), HASTY, "timeout", False),
        (Reply(((0, head(200, {"content-length": "9"}) + b"a"),), "hold"), HASTY, "timeout", False),
        (Reply(((0, head(200, {"content-length": "9"}) + b"a"),), "hang up"), QUICK, "truncated", False),
        (Reply(((0, head(200, {"content-length": "9"}) + b"a"),), "reset"), QUICK, "truncated", False),
        (Reply(((0, head(200, CHUNKED) + chunk(b"a")),), "hang up"), QUICK, "truncated", False),
        (Reply(((0, b"HTTP/1.1 20"),), "hang up"), QUICK, "truncated", False),
        (Reply(((0, b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),), "hang up"), QUICK, "protocol", False),
    ],
    ids=[
        "hangs up", "resets", "says nothing", "says half a line", "stops in the body", "hangs up in the body",
        "resets in the body", "hangs up between chunks", "hangs up in the head", "is another protocol",
    ],
)  # fmt: skip
def test_what_goes_wrong_has_a_name(script: Reply, timeouts: Timeouts, kind: str, unanswered: bool) -> None:
    error = failure(lambda asked: script, timeouts)

    assert (kind, unanswered) == (error.kind, error.unanswered)


def test_no_wait_is_longer_than_its_limit() -> None:
    started = time.monotonic()
    failure(
        lambda asked: Reply(tuple((0.04, b"HTTP/1.1 200 So\r\n" if not n else b"a: b\r\n") for n in range(99))), HASTY
    )

    assert 0.12 <= time.monotonic() - started < 1.0


def test_nobody_who_listens_is_told_so() -> None:
    with pytest.raises(RequestFailed, match="Nothing listens on") as error:
        exchange(f"http://127.0.0.1:{unused_port()}")

    assert ("refused", True) == (error.value.kind, error.value.unanswered)


def test_a_host_that_is_not_there_is_told_so() -> None:
    with pytest.raises(RequestFailed, match="Unknown host `host.invalid`") as error:
        exchange("http://host.invalid:1")

    assert "unresolved" == error.value.kind


def test_no_tls_where_none_is_spoken() -> None:
    with serving(lambda asked: reply()) as fake, pytest.raises(RequestFailed) as error:
        exchange(fake.url.replace("http:", "https:"), timeouts=HASTY)

    assert error.value.kind in ("tls", "connect_timeout")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://a:1/", "http://a:1"),
        ("a:1", "http://a:1"),
        ("http://a", "http://a"),
        ("https://a/b/c/", "https://a/b/c"),
        ("https://a:443", "https://a"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_reads_an_address(text: str, expected: str) -> None:
    assert expected == str(Address.parse(text))


@pytest.mark.parametrize(
    "text",
    ["", "ftp://a", "http://", "http://a:x", "http://a:99999", "http://u:p@a", "http://a?b", "http://a b", "http://ä"],
)
def test_refuses_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageFault):
        Address.parse(text)
