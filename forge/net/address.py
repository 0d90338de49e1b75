"""Addresses: what is reached over HTTP and what is a path, and how an address is shown."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit


def is_remote(address: str) -> bool:
    """Say whether `address` is reached over HTTP; else it is a path."""
    return address.startswith(("http://", "https://"))


def mask(address: str) -> str:
    """Take credentials out of an address: what stands before the host's `@`, and the query."""
    if "://" not in address:
        return address
    parts = urlsplit(address)
    secret, at, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, f"***@{host}" if at and secret else host, parts.path, parts.query and "***", ""))


def local_path(address: str) -> Path:
    """Turn a `file:` URL or a path into a path."""
    return Path(unquote(urlsplit(address).path) if address.startswith("file:") else address)


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine: nobody is between, and plain http does."""
    return host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdigit())
