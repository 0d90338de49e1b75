"""Clients that send or read too slowly, until the server has given them up."""

from __future__ import annotations

import asyncio
import time

from benchmarks.serving_client import Connection, post

__all__ = ["BODY", "HEADERS", "ignore", "trickle"]

HEADERS = b"POST /api/infer HTTP/1.1\r\nhost: x\r\nx-slow: "
BODY = b"POST /api/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"
STREAM = post("/v1/completions", {"prompt": "!flood 256", "stream": True, "max_tokens": 500})
"""More than the buffers on the way can hold."""
POLL_S = 0.1


async def trickle(port: int, start: bytes, *, pause_s: float, timeout: float) -> tuple[int, float]:
    """Send a byte now and then; return the status that comes, and the seconds until the server has hung up."""
    connection = Connection(port)
    await connection.open()
    started = time.monotonic()
    connection.write(start)
    answer = asyncio.ensure_future(connection.head(timeout))
    while not answer.done():
        connection.write(b"x")
        await asyncio.wait({answer}, timeout=pause_s)
    status, _ = await answer
    await connection.rest(timeout)
    connection.close()
    return status, time.monotonic() - started


async def ignore(port: int, *, timeout: float) -> float:
    """Ask for a long text and read nothing of it; return the seconds until the server has reset the connection."""
    connection = Connection(port, buffer=4096)
    await connection.open()
    connection.pause()
    started = time.monotonic()
    connection.write(STREAM)
    while not connection.is_reset():
        if time.monotonic() - started >= timeout:
            raise TimeoutError(f"A client that reads nothing is still connected after {timeout:g} s")
        await asyncio.sleep(POLL_S)
    connection.close()
    return time.monotonic() - started
