"""Bodies of requests, read within limits."""

from __future__ import annotations

import asyncio
import sys

from starlette.requests import ClientDisconnect, Request

from forge_runtime.config import ServerConfig
from forge_runtime.error import RequestError
from forge_runtime.http.refusal import client_left

__all__ = ["BodyReader"]

SMALL = 64 * 1024
TOGETHER = 16
"""Times the limit: what all bodies that are being read may hold."""


class BodyReader:
    """Reads one body at a time for each connection, and bounds what they hold together."""

    def __init__(self, limits: ServerConfig) -> None:
        self._limits = limits
        self._held = 0

    async def read_small(self, request: Request) -> bytes:
        """Return a body that is parsed here and now, with nobody else served meanwhile: it must be small."""
        body = await self.read(request)
        if len(body) > SMALL:
            raise RequestError(f"The body is larger than {SMALL} bytes", status=413, code="body_too_large")
        return body

    async def read(self, request: Request) -> bytes:
        """Return the whole body, or raise RequestError: 408, 413, 415, 429."""
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            # A few kilobytes of gzip can be gigabytes of prompt.
            raise RequestError("Compressed bodies are not served", status=415, code="unsupported_encoding")
        self._check_length(request)
        # asyncio.wait_for would make a task for each body, most of which are there already.
        timeout = _Timeout(self._limits.body_timeout_s)
        try:
            return await self._collect(request)
        except ClientDisconnect:
            raise client_left() from None
        except asyncio.CancelledError:
            if not timeout.is_over():
                raise
            message = f"The body did not come within {self._limits.body_timeout_s:g} s"
            headers = (("connection", "close"),)
            raise RequestError(message, status=408, code="body_timeout", headers=headers) from None
        finally:
            timeout.end()

    def _check_length(self, request: Request) -> None:
        length = int(request.headers.get("content-length", "0"))  # h11 has refused what is no number
        if length > self._limits.body_limit:
            raise _too_large(self._limits.body_limit)

    async def _collect(self, request: Request) -> bytes:
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                self._held += len(chunk)
                if len(body) > self._limits.body_limit:
                    raise _too_large(self._limits.body_limit)
                if self._held > TOGETHER * self._limits.body_limit:
                    headers = (("retry-after", "1"), ("connection", "close"))
                    message = "Too many large bodies at a time"
                    raise RequestError(message, status=429, code="overloaded", headers=headers)
            return bytes(body)
        finally:
            self._held -= len(body)


class _Timeout:
    """Cancels the task that it is made in, after a time."""

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._over = False
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def is_over(self) -> bool:
        """Say whether it was this that has cancelled the task, and take that back."""
        if self._over and sys.version_info >= (3, 11):
            self._task.uncancel()
        return self._over

    def end(self) -> None:
        self._timer.cancel()

    def _expire(self) -> None:
        self._over = True
        self._task.cancel()


def _too_large(limit: int) -> RequestError:
    # The connection throws away what still comes, for a while, so that the client hears the answer.
    message = f"The body is larger than {limit} bytes"
    return RequestError(message, status=413, code="body_too_large", headers=(("connection", "close"),))
