"""What is done for every request whatever its path: an id, a count, no exception to uvicorn."""

from __future__ import annotations

import logging
import os
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forge_runtime import log
from forge_runtime.metric import Metrics

__all__ = ["REQUEST_ID", "Observer"]

logger = logging.getLogger(__name__)

REQUEST_ID = "forge.request_id"
HEADER = b"x-request-id"
OTHER = "other"


class Observer:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope[REQUEST_ID] = request_id
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (HEADER, request_id.encode("ascii")),
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            # The response is sent already; uvicorn would log it again, without the id.
            log.event(logger, logging.ERROR, f"Bug: {error!r}", {"request_id": request_id}, error=error)
        finally:
            # A path comes from outside: one series for each would fill the memory.
            route = scope.get("route")
            self._metrics.requests.labels(route.path if route is not None else OTHER, str(status)).inc()


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == HEADER and re.fullmatch(rb"[A-Za-z0-9._:-]{1,128}", value):
            return str(value.decode("ascii"))
    return os.urandom(16).hex()
