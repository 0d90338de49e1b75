"""Where a server is."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from forge_client.error import UsageFault

__all__ = ["Address"]

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port, and what every path begins with."""

    host: str
    port: int
    tls: bool = False
    prefix: str = ""
    """Path of the server behind a gateway, without a slash at its end."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `http://host:port/prefix`, or `host:port`; UsageFault when it is neither."""
        hint = "Write it as `http://127.0.0.1:3000`"
        whole = text if "://" in text else f"http://{text}"
        try:
            parts = urlsplit(whole)
            port = parts.port
        except ValueError as error:
            raise UsageFault(f"{text!a} is no address: {error}", hint) from error
        if parts.scheme not in _PORTS or not parts.hostname:
            raise UsageFault(f"{text!a} is no address of an HTTP server", hint)
        if parts.username is not None or parts.query or parts.fragment:
            raise UsageFault(f"{text!a} has more than host, port and path", hint)
        if not whole.isascii() or not whole.isprintable() or " " in whole:
            raise UsageFault(f"{text!a} has signs that no address has", hint)
        return cls(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "https", parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """Value of the header `Host`."""
        host = f"[{self.host}]" if _is_v6(self.host) else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return "https" if self.tls else "http"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.prefix}"


def _is_v6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).version == 6
    except ValueError:
        return False
