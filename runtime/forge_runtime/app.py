"""The HTTP face: routes, limits, error bodies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from forge_runtime import log
from forge_runtime.config import Config
from forge_runtime.engine import Answer, Engine, State
from forge_runtime.error import RequestError, StepError
from forge_runtime.metric import Metrics
from forge_runtime.observer import REQUEST_ID, Observer
from forge_runtime.refusal import error_response

__all__ = ["App"]

logger = logging.getLogger(__name__)

CLIENT_LEFT = 499
DRAINED_BODY = 8
"""Times the limit: a longer body that is refused is not read to its end either."""
DISCARD_S = 2.0


class App:
    """The ASGI application of one engine."""

    def __init__(self, engine: Engine, config: Config, metrics: Metrics) -> None:
        self._engine = engine
        self._config = config
        self._limits = config.server
        self._metrics = metrics
        self._answers: set[asyncio.Task[None]] = set()
        self.in_flight = 0
        metrics.in_flight.set_function(lambda: float(self.in_flight))
        routes = [
            Route("/api/infer", self._infer, methods=["POST"]),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._expose),
        ]
        starlette = Starlette(
            routes=routes,
            exception_handlers={
                RequestError: _refused,
                HTTPException: _http_error,
                Exception: _crashed,
            },
        )
        # POST /api/infer/ is a mistake to be told, not a redirect that loses the body.
        starlette.router.redirect_slashes = False
        self.asgi = Observer(starlette, metrics, [route.path for route in routes])

    def abort(self) -> None:
        """Answer 503 to all that still wait for the model."""
        for task in self._answers:
            task.cancel()

    async def _infer(self, request: Request) -> Response:
        self.in_flight += 1
        answer = Answer()
        started = time.perf_counter()
        status = 500
        try:
            await self._answer(request, answer)
            status = 200
            return Response(answer.body, media_type=answer.media_type)
        except (RequestError, ClientDisconnect) as error:
            refusal = error if isinstance(error, RequestError) else _client_left()
            status = refusal.status
            raise refusal from None
        except StepError as error:
            log.event(logger, logging.ERROR, str(error), {"request_id": _id(request)}, error=error)
            message = (
                f"Step `{error.step}` failed; the log has the reason under request `{_id(request)}`"
            )
            raise RequestError(message, status=500, code="internal_error") from None
        finally:
            self.in_flight -= 1
            seconds = round(time.perf_counter() - started, 6)
            fields = {
                "request_id": _id(request),
                "status": status,
                "seconds": seconds,
                "steps": answer.seconds,
            }
            log.event(logger, logging.INFO, "Answered", fields)

    async def _answer(self, request: Request, answer: Answer) -> None:
        self._engine.admit()
        body = await self._read(request)
        content_type = request.headers.get("content-type", "")
        task = asyncio.ensure_future(self._engine.answer(body, content_type, answer))
        gone = asyncio.ensure_future(request.receive())  # after the body, only a disconnect comes
        self._answers.add(task)
        try:
            await asyncio.wait(
                {task, gone}, timeout=self._limits.deadline_s, return_when=asyncio.FIRST_COMPLETED
            )
            if task.cancelled():
                raise RequestError("The server is shutting down", status=503, code="draining")
            if task.done():
                return task.result()
            if gone.done():
                raise _client_left()
            message = f"No answer within {self._limits.deadline_s:g} s"
            raise RequestError(message, status=504, code="deadline_exceeded")
        finally:
            self._answers.discard(task)
            task.cancel()
            gone.cancel()

    async def _read(self, request: Request) -> bytes:
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            # A few kilobytes of gzip can be gigabytes of prompt.
            raise RequestError(
                "Compressed bodies are not served", status=415, code="unsupported_encoding"
            )
        length = request.headers.get("content-length")
        if length is not None and int(length) > self._limits.body_limit:
            close = int(length) > DRAINED_BODY * self._limits.body_limit
            if not close and request.headers.get("connection", "").lower() == "close":
                # uvicorn would hang up while the client still sends, and it would not
                # hear why: urllib is such a client.
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(_discard(request), DISCARD_S)
            raise self._too_large(close=close)
        try:
            return await asyncio.wait_for(self._collect(request), self._limits.body_timeout_s)
        except asyncio.TimeoutError:
            message = f"The body did not come within {self._limits.body_timeout_s:g} s"
            headers = (("connection", "close"),)
            raise RequestError(message, status=408, code="body_timeout", headers=headers) from None

    async def _collect(self, request: Request) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._limits.body_limit:
                raise self._too_large(close=True)
        return bytes(body)

    def _too_large(self, *, close: bool) -> RequestError:
        # uvicorn throws away what still comes, so that the client hears the answer
        # before it has sent all; where that would be too much, hang up.
        return RequestError(
            f"The body is larger than {self._limits.body_limit} bytes",
            status=413,
            code="body_too_large",
            headers=(("connection", "close"),) if close else (),
        )

    async def _healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _readyz(self, request: Request) -> Response:
        state = self._engine.state
        body = {"status": state.value, "model": self._config.model.name}
        if state is State.READY:
            return JSONResponse(body)
        return JSONResponse(body, 503, {"retry-after": "5"})

    async def _expose(self, request: Request) -> Response:
        return Response(
            self._metrics.expose(), headers={"content-type": self._metrics.content_type}
        )


async def _discard(request: Request) -> None:
    async for _ in request.stream():
        pass


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # registered for nothing else
    return error_response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    headers = tuple((error.headers or {}).items())
    return error_response(
        RequestError(error.detail, status=error.status_code, code=code, headers=headers)
    )


async def _crashed(request: Request, error: Exception) -> Response:
    return error_response(RequestError("Internal error", status=500, code="internal_error"))


def _client_left() -> RequestError:
    return RequestError("The client has left", status=CLIENT_LEFT, code="client_left")


def _id(request: Request) -> str:
    return str(request.scope.get(REQUEST_ID, ""))
