"""The way out of a connection: a transport that does not wait for ever for its reader.

asyncio's waits as long as the client likes, even after `close` while its buffer is not empty. A deadline for the
whole buffer would cut off a large response on a slow line, and one since the last byte sent never ends with a byte
a minute: so in each stretch of `write_timeout_s` the buffer gets empty, or `min_write_rate` is kept, or the
connection is reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

from forge_runtime.http.limit import ConnectionLimits

__all__ = ["Outlet"]

CHECKS = 4
"""Looks at the progress within one deadline."""


class Outlet(asyncio.Transport):
    """A transport in place of asyncio's; `close` is what its owner says."""

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        limits: ConnectionLimits,
        *,
        on_close: Callable[[], None],
    ) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._timeout_s = limits.write_timeout_s
        self._quota = limits.write_timeout_s * limits.min_write_rate
        self._on_close = on_close
        self._timer: asyncio.TimerHandle | None = None
        self._written = 0
        self._mark = (0, 0.0)
        self.half_closed = False
        transport.set_write_buffer_limits(high=limits.write_buffer_bytes)
        _tune(transport.get_extra_info("socket"), limits)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write, and see to it that it goes out."""
        if self.half_closed:
            return
        self._transport.write(data)
        self._written += len(data)
        if self._timer is None and self._transport.get_write_buffer_size():
            self._mark = (self._sent(), self._loop.time())
            self._timer = self._loop.call_later(self._timeout_s / CHECKS, self._check)

    def close(self) -> None:
        """Leave it to the owner to hang up."""
        self._on_close()

    def half_close(self) -> None:
        """Send the end of the stream after what is written; go on reading."""
        self.half_closed = True
        self._transport.write_eof()
        self._transport.resume_reading()

    def hang_up(self) -> None:
        """Read no more, and close after what is written."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once, and reset: else the kernel keeps what is unsent, for a client that never takes it."""
        with contextlib.suppress(OSError, AttributeError):
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()

    def stop(self) -> None:
        """Forget the deadline of a connection that is lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def is_closing(self) -> bool:
        """Whether anything that is written now would be lost."""
        return self.half_closed or self._transport.is_closing()

    def pause_reading(self) -> None:
        """Take no more from the client, unless it is to be thrown away."""
        if not self.half_closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take what the client sends."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return what asyncio knows of the socket."""
        return self._transport.get_extra_info(name, default)

    def _sent(self) -> int:
        return self._written - self._transport.get_write_buffer_size()

    def _check(self) -> None:
        self._timer = None
        sent, now = self._sent(), self._loop.time()
        if sent == self._written:
            return
        if sent - self._mark[0] >= self._quota:
            self._mark = (sent, now)
        elif now - self._mark[1] >= self._timeout_s:
            self.abort()
            return
        self._timer = self._loop.call_later(self._timeout_s / CHECKS, self._check)


def _tune(sock: socket.socket, limits: ConnectionLimits) -> None:
    with contextlib.suppress(OSError, AttributeError):  # a socket of another kind, another kernel
        # asyncio does it only where the listening socket was made with its protocol's number. Without, a body waits for
        # the client to confirm the headers, often 40 ms.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Megabytes fit into the kernel's buffer. A small one would slow down long lines; this bounds what is unsent.
        # (Not TCP_USER_TIMEOUT: it ends connections with small windows even while they get on.)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, limits.write_buffer_bytes)
