"""HTTP as a downloader wants it: redirects that keep secrets at home, and failures sorted by what to do about them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urljoin, urlsplit

from forge.net.address import mask

if TYPE_CHECKING:
    import httpx2

_MAX_REDIRECTS = 10
_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))
_GONE = frozenset((404, 410))
_ANSWERED = frozenset((200, 206))
_PORTS = {"http": 80, "https": 443}
_MAX_REASON = 1 << 16

Body = bytes | Callable[[], Iterator[bytes]]
"""What is sent: bytes, or content that can be streamed any number of times."""


class Unavailable(Exception):
    """An address does not give the bytes; the text says why, without credentials."""


class Missing(Unavailable):
    """The address is answered for, and has nothing."""


class Denied(Unavailable):
    """The address is there for others: it wants a login, or another one."""


class Broken(Exception):
    """It failed in a way that another attempt may mend."""

    def __init__(self, reason: str, *, wait: float = 0.0, host: str = "", late: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        """Seconds that the server asks for."""
        self.host = host
        """The host, when it could not be reached at all."""
        self.late = late
        """Whether it was waited for in vain."""


class Login(Protocol):
    """What a server is shown that wants to know who asks."""

    def header(self, address: str) -> str:
        """Give the `Authorization` to send at once, or nothing."""

    def answer(self, address: str, challenges: Sequence[str], refused: str) -> str:
        """Give the one to send after a 401 with these `WWW-Authenticate`, or nothing where that is no use."""


@dataclass(frozen=True, slots=True)
class Known:
    """A login that needs no question."""

    value: str = field(default="", repr=False)
    """The header; empty for none."""

    @classmethod
    def bearer(cls, token: str) -> Known:
        """Show a token, if there is one."""
        return cls(f"Bearer {token}" if token else "")

    def header(self, address: str) -> str:
        """Give it."""
        return self.value

    def answer(self, address: str, challenges: Sequence[str], refused: str) -> str:
        """Have no other."""
        return ""


ANONYMOUS = Known()


def host_of(address: str) -> str:
    """Name the server behind an address: scheme, host and port."""
    try:
        parts = urlsplit(address)
        return f"{parts.scheme}://{parts.hostname}:{parts.port or _PORTS.get(parts.scheme)}"
    except ValueError as error:
        raise Unavailable(f"Not an address: {error}") from error


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    address: str
    headers: Mapping[str, str]
    body: Body | None
    private: Mapping[str, str] = field(default_factory=dict, repr=False)


class Connection:
    """A client with its pool of connections, safe to share between threads.

    Proxies and certificates are the process environment's (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE), as for any
    HTTP client; credentials are those in the address, else netrc's.
    """

    def __init__(
        self, environ: Mapping[str, str], *, timeout: float = 30.0, client: httpx2.Client | None = None
    ) -> None:
        self._environ, self._timeout = environ, timeout
        self._lock = threading.Lock()
        self._client = client

    @contextmanager
    def open(
        self,
        method: str,
        address: str,
        headers: Mapping[str, str],
        *,
        login: Login = ANONYMOUS,
        body: Body | None = None,
        accepted: Container[int] = _ANSWERED,
        private: Mapping[str, str] | None = None,
    ) -> Iterator[httpx2.Response]:
        """Send a request and yield the answer, its body unread; Broken, Missing or Unavailable when it is none.

        What `login` gives goes to the address's own host, and nowhere else; so do the headers of `private`.
        """
        import httpx2

        try:
            with self._follow(_Request(method, address, headers, body, private or {}), login) as response:
                _check_status(response, accepted)
                yield response
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            raise Broken(f"Cannot connect: {error or 'no answer'}", host=host_of(address)) from error
        except httpx2.TimeoutException as error:
            raise Broken(f"No answer within {self._timeout:g} s", late=True) from error
        except httpx2.TransportError as error:
            raise Broken(f"The connection broke ({error})") from error
        except (httpx2.InvalidURL, httpx2.DecodingError) as error:
            raise Unavailable(str(error)) from error

    def close(self) -> None:
        """Close the connections that are kept open."""
        with self._lock:
            if self._client:
                self._client.close()
            self._client = None

    @contextmanager
    def _follow(self, asked: _Request, login: Login) -> Iterator[httpx2.Response]:
        # Taken out of the address, so that a redirect within the host keeps it and one to another does not.
        address, home = asked.address, host_of(asked.address)
        secret = login.header(address)
        answered = False
        for _ in range(_MAX_REDIRECTS + 2):
            is_home = host_of(address) == home
            response = self._send(asked, address, secret if is_home else "", is_home=is_home)
            try:
                challenges = response.headers.get_list("WWW-Authenticate") if response.status_code == 401 else []
                if is_home and challenges and not answered:
                    answered, refused = True, secret
                    secret = login.answer(address, challenges, refused)
                    if secret and secret != refused:
                        continue
                if not response.has_redirect_location:
                    yield response
                    return
                target = urljoin(address, response.headers["Location"])
            finally:
                response.close()
            if address.startswith("https:") and not target.startswith("https:"):
                raise Unavailable(f"Redirects from https to `{mask(target)}`")
            # What is given whole may be a login; what is streamed is content, and goes where the server wants it.
            if isinstance(asked.body, bytes) and host_of(target) != home:
                raise Unavailable(f"Redirects what was sent to it to `{mask(target)}`")
            address = target
        raise Unavailable(f"Redirects more than {_MAX_REDIRECTS} times")

    def _send(self, asked: _Request, address: str, secret: str, *, is_home: bool) -> httpx2.Response:
        import httpx2

        private = asked.private if is_home else {}
        headers = {**asked.headers, **private, **({"Authorization": secret} if secret else {})}
        content = asked.body() if callable(asked.body) else asked.body
        request = self._http().build_request(asked.method, address, headers=headers, content=content)
        own = _login(asked.address)
        shown = secret or any(name.lower() == "authorization" for name in private)
        auth = None if shown else httpx2.BasicAuth(*own) if own and is_home else self._netrc()
        return self._http().send(request, stream=True, auth=auth)

    def _http(self) -> httpx2.Client:
        import httpx2

        with self._lock:
            if self._client is None:
                soon, patient = min(10.0, self._timeout), min(30.0, self._timeout)
                timeout = httpx2.Timeout(self._timeout, connect=soon, write=patient, pool=None)
                self._client = httpx2.Client(timeout=timeout)
            return self._client

    def _netrc(self) -> httpx2.Auth | None:
        import netrc

        import httpx2

        home = self._environ.get("HOME", "")
        file = Path(self._environ.get("NETRC") or (f"{home}/.netrc" if home else ""))
        if not file.is_file():
            return None
        try:
            return httpx2.NetRCAuth(str(file))
        except (netrc.NetrcParseError, OSError):  # as curl and pip do: a file that cannot be read holds no login
            return None


def _login(address: str) -> tuple[str, str] | None:
    parts = urlsplit(address)
    return (unquote(parts.username), unquote(parts.password or "")) if parts.username else None


def _check_status(response: httpx2.Response, accepted: Container[int]) -> None:
    status = response.status_code
    if status in accepted:
        return
    text = f"HTTP {status} {response.reason_phrase}".rstrip()
    if response.request.method not in ("GET", "HEAD") and (reason := _reason(response)):
        text += f" ({reason})"
    if status in _GONE:
        raise Missing(text)
    if status in (401, 403):
        raise Denied(text)
    if status in _AGAIN:
        raise Broken(text, wait=_retry_after(response))
    raise Unavailable(text)


def _reason(response: httpx2.Response) -> str:
    """Read why a registry refuses what is sent to it, in the one form that the distribution API has for that."""
    data = b""
    for chunk in response.iter_bytes():
        data += chunk
        if len(data) > _MAX_REASON:
            return ""
    try:
        first = json.loads(data)["errors"][0]
        text = ": ".join(str(first[key]) for key in ("code", "message") if first.get(key))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return ""
    return text if text.isprintable() else ""


def _retry_after(response: httpx2.Response) -> float:
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:  # a date, counted from the server's own clock
        then, now = parsedate_to_datetime(value), parsedate_to_datetime(response.headers.get("Date", ""))
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError):
        return 0.0
