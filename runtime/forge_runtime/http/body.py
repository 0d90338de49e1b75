"""Bodies of requests, read within limits."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.requests import Request

from forge_runtime.config import ServerConfig
from forge_runtime.error import RequestError

__all__ = ["BodyReader"]

DRAINED_BODY = 8
"""Times the limit: a longer body that is refused is not read to its end either."""
DISCARD_S = 2.0
TOGETHER = 16
"""Times the limit: what all bodies that are being read may hold."""


class BodyReader:
    """Reads one body at a time for each connection, and bounds what they hold together."""

    def __init__(self, limits: ServerConfig) -> None:
        self._limits = limits
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """Return the whole body, or raise RequestError: 408, 413, 415, 429."""
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            # A few kilobytes of gzip can be gigabytes of prompt.
            raise RequestError("Compressed bodies are not served", status=415, code="unsupported_encoding")
        await self._check_length(request)
        try:
            return await asyncio.wait_for(self._collect(request), self._limits.body_timeout_s)
        except asyncio.TimeoutError:
            message = f"The body did not come within {self._limits.body_timeout_s:g} s"
            headers = (("connection", "close"),)
            raise RequestError(message, status=408, code="body_timeout", headers=headers) from None

    async def _check_length(self, request: Request) -> None:
        length = int(request.headers.get("content-length", "0"))  # h11 has refused what is no number
        if length <= self._limits.body_limit:
            return
        close = length > DRAINED_BODY * self._limits.body_limit
        if not close and request.headers.get("connection", "").lower() == "close":
            # uvicorn would hang up while the client still sends, and it would not
            # hear why: urllib is such a client.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(_discard(request), DISCARD_S)
        raise self._too_large(close=close)

    async def _collect(self, request: Request) -> bytes:
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                self._held += len(chunk)
                if len(body) > self._limits.body_limit:
                    raise self._too_large(close=True)
                if self._held > TOGETHER * self._limits.body_limit:
                    headers = (("retry-after", "1"), ("connection", "close"))
                    message = "Too many large bodies at a time"
                    raise RequestError(message, status=429, code="overloaded", headers=headers)
            return bytes(body)
        finally:
            self._held -= len(body)

    def _too_large(self, *, close: bool) -> RequestError:
        # uvicorn throws away what still comes, so that the client hears the answer
        # before it has sent all; where that would be too much, hang up.
        return RequestError(
            f"The body is larger than {self._limits.body_limit} bytes",
            status=413,
            code="body_too_large",
            headers=(("connection", "close"),) if close else (),
        )


async def _discard(request: Request) -> None:
    async for _ in request.stream():
        pass
