"""Logins at registries: Basic, and the tokens that a registry sends its clients elsewhere for.

https://distribution.github.io/distribution/spec/auth/token/. Docker's credentials of the address's host go to that
host and to the realm that it names, over https; over http only where the registry is reached so itself.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, unquote, urlencode, urljoin, urlsplit

from forge.net.address import is_loopback, mask
from forge.net.connection import Connection, Denied, Known, Unavailable
from forge.net.docker_config import Credential, DockerConfig

CLIENT: Final = "forge"
_MAX_TOKEN: Final = 1 << 20
_CHALLENGE = re.compile(r"\s*(?P<scheme>[A-Za-z0-9!#$%&'*+.^_`|~-]+)\s+(?P<rest>.*)", re.DOTALL)
_PARAMETER = re.compile(r'\s*,?\s*(?P<key>[A-Za-z_]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+))')
_REPOSITORY = re.compile(r"/v2/(?P<path>.+?)/(?P<part>manifests|blobs/uploads|blobs|tags|referrers)/")

_Key = tuple[str, str, str, str]
"""What a token is good for: host, repository, whether its blobs may be written, the repository that they come from."""


@dataclass(slots=True)
class RegistryLogin:
    """Answers the challenges of registries; a token serves all requests for a repository until it is refused."""

    config: DockerConfig
    connection: Connection
    _held: dict[_Key, str] = field(default_factory=dict, repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def header(self, address: str) -> str:
        """Give what was accepted for the same repository before."""
        key = _key(address)
        held = self._held.get(key, "")
        if not held and key[2]:  # an upload goes on with what it was begun with
            held = next((value for each, value in list(self._held.items()) if each[:3] == key[:3] and value), "")
        return held

    def answer(self, address: str, challenges: Sequence[str], refused: str) -> str:
        """Log in; nothing where the challenge is of no known kind or there is no login."""
        key = _key(address)
        with self._guard:  # of eight downloads that are asked at once, one asks for the token
            held = self._held.get(key, "")
            if held and held != refused:
                return held
            found = self._answer(address, challenges)
            self._held[key] = found
            return found

    def _answer(self, address: str, challenges: Sequence[str]) -> str:
        parts = urlsplit(address)
        own = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        credential = Credential(*own) if own else self.config.credential(parts.netloc.rpartition("@")[2])
        for scheme, parameters in map(parse_challenge, challenges):
            if scheme == "bearer":
                return f"Bearer {self._token(address, parameters, credential)}"
            if scheme == "basic" and credential is not None and credential.user:
                return credential.basic
        return ""

    def _token(self, address: str, parameters: Mapping[str, str], credential: Credential | None) -> str:
        realm = urljoin(address, parameters.get("realm", ""))
        if not _may_ask(address, realm):
            raise Unavailable(f"Sends its clients to `{mask(realm)}` for a token, where no login may go")
        asked = {key: parameters[key] for key in ("service", "scope") if parameters.get(key)}
        # Neither the address's own login nor netrc's: the realm gets what Docker would give it.
        login = Known(credential.basic if credential is not None and credential.user else "")
        method, body, headers = "GET", None, {"Accept": "application/json"}
        if credential is not None and credential.identity:
            grant = {"grant_type": "refresh_token", "refresh_token": credential.identity, "client_id": CLIENT}
            method, body = "POST", urlencode({**grant, **asked}).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        elif asked:
            # A mount asks for two scopes with a space between, which a query has one by one.
            pairs = [(key, each) for key, value in asked.items() for each in _words(key, value)]
            realm += ("&" if urlsplit(realm).query else "?") + urlencode(pairs)
        try:
            with self.connection.open(method, realm, headers, login=login, body=body) as response:
                data = b""
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > _MAX_TOKEN:
                        raise Unavailable("Gives more than a token")
        except Denied as error:
            whose = "Docker's login for it is refused" if credential else "Docker's configuration has no login for it"
            raise Denied(f"{error}: {whose}") from None
        return _read_token(data)


def parse_challenge(text: str) -> tuple[str, dict[str, str]]:
    """Read a `WWW-Authenticate` (RFC 9110 section 11.6.1); its scheme in lower case, empty when it is none."""
    match = _CHALLENGE.fullmatch(text)
    if match is None:
        return text.strip().lower(), {}
    found = {}
    for each in _PARAMETER.finditer(match["rest"]):
        quoted = each["quoted"]
        found[each["key"].lower()] = each["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    return match["scheme"].lower(), found


def _words(key: str, value: str) -> list[str]:
    return value.split() if key == "scope" else [value]


def _read_token(data: bytes) -> str:
    try:
        found = json.loads(data)
        token = found.get("token") or found.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise Unavailable("Where it sends its clients for a token, none is given")
    return token


def _may_ask(address: str, realm: str) -> bool:
    """Say whether a login may go from a registry to the realm that it names."""
    here, there = urlsplit(address), urlsplit(realm)
    if there.scheme == "https":
        return bool(there.hostname)
    is_near = is_loopback(there.hostname or "") or there.hostname == here.hostname
    return there.scheme == here.scheme == "http" and is_near


def _key(address: str) -> _Key:
    parts = urlsplit(address)
    match = _REPOSITORY.match(parts.path)
    host = f"{parts.scheme}://{parts.netloc}"
    if match is None:
        return host, "", "", ""
    writes = match["part"] == "blobs/uploads"
    origin = parse_qs(parts.query).get("from", [""])[0] if writes else ""
    return host, match["path"], "write" if writes else "", origin
