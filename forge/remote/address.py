"""A remote cache's address, by which its protocol is chosen, and what a client shows with each call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from forge.core.errors import UsageError
from forge.core.remote import RemoteCache
from forge.net.address import mask

SCHEMES = ("http", "https", "grpc", "grpcs")
TIMEOUT_S = 30
"""Seconds that a call may take beyond what its bytes need, unless told."""


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """Which remote cache, and how it is spoken to."""

    address: str = field(repr=False)
    """`http(s)://host/prefix` for Bazel's HTTP cache protocol, `grpc(s)://host:port` for the Remote Execution API."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with each call, to this host alone; their values are secrets."""
    timeout: float = TIMEOUT_S
    """Seconds."""
    instance: str = ""
    """Instance name of the Remote Execution API."""


def open_remote(settings: RemoteSettings, environ: Mapping[str, str]) -> RemoteCache:
    """Make the client of an address; nothing is asked yet. UsageError where the address means nothing."""
    try:
        parts = urlsplit(settings.address)
        is_address = parts.scheme in SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address:
        raise UsageError(
            f"`{mask(settings.address)}` is no address of a remote cache",
            hint="It is `http://`, `https://` (Bazel's HTTP cache protocol), `grpc://` or `grpcs://` (Remote Execution "
            "API), a host, and a port where it is not the usual one",
        )
    if parts.scheme in ("http", "https"):
        from forge.remote.http_cache import HttpCache

        return HttpCache(settings, environ)
    from forge.remote.grpc_cache import GrpcCache

    return GrpcCache(settings, environ)


def parse_headers(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Read `NAME=VALUE`; UsageError, which never shows the value, where one is something else."""
    found = []
    for text in texts:
        name, equals, value = text.partition("=")
        # What has a line break in it could say more than one header.
        if not equals or not name.isascii() or not name.replace("-", "").isalnum() or not value.isprintable():
            raise UsageError(
                f"A remote header must be NAME=VALUE; `{name[:40]}` does not begin one"
                if equals
                else "A remote header must be NAME=VALUE; there is no `=` in one",
                hint="For a token: `--remote-header=authorization='Bearer …'`, or FORGE_REMOTE_HEADER",
            )
        found.append((name.lower(), value))
    return tuple(found)
