"""What the connections of a server are held to."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass

__all__ = ["MAX_DESCRIPTORS", "ConnectionLimits", "raise_descriptor_limit"]

MAX_DESCRIPTORS = 65536


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How long a client may take, and how much."""

    header_timeout_s: float = 10
    """From the connection's opening, or a request's first byte, to the end of its headers; then 408."""
    keep_alive_s: float = 60
    """From a response to the next request."""
    discard_timeout_s: float = 10
    """For a body to end that was answered before its end."""
    write_timeout_s: float = 60
    """For what is written to go out, or `min_write_rate` to be kept; up to a quarter more."""
    min_write_rate: int = 1024
    """Bytes a second, on average over `write_timeout_s`. A byte a minute is progress, too."""
    max_connections: int = 4096
    max_header_bytes: int = 32 * 1024
    max_headers: int = 100
    write_buffer_bytes: int = 64 * 1024
    """What waits in the process before the application has to; as much again may wait unsent in the kernel."""


def raise_descriptor_limit(ceiling: int = MAX_DESCRIPTORS) -> int:
    """Raise the soft limit of descriptors to the hard one, `ceiling` at most, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return ceiling
    wanted = ceiling if hard == resource.RLIM_INFINITY else min(hard, ceiling)
    if wanted > soft:
        with contextlib.suppress(ValueError, OSError):  # a sandbox may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], ceiling)
