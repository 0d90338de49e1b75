"""A listening socket's end, without harm to connections that the kernel has taken already."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct

__all__ = ["stop_listening"]

SO_ATTACH_FILTER = 26  # Linux; Python has no name for it
FLAGS, SYN = 13, 0x02  # a byte of TCP's header, a bit of that
DROP_SYN = (
    (0x30, 0, 0, FLAGS),  # load the byte
    (0x45, 0, 1, SYN),  # is the bit set?
    (0x06, 0, 0, 0),  # then keep nothing of the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # else everything
)


def stop_listening(sock: socket.socket) -> None:
    """Ignore who asks for a connection, so that those in the queue can still be accepted.

    Closing the socket alone resets what is in the queue, requests included. Who is ignored asks again after a
    second, and is refused by then.
    """
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in DROP_SYN)
    buffer = ctypes.create_string_buffer(program)
    with contextlib.suppress(OSError):  # another kernel
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(DROP_SYN), ctypes.addressof(buffer)))
