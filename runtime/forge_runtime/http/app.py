"""The HTTP face: which endpoints there are, and what is answered when none of them does."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from forge_runtime.config import Config
from forge_runtime.engine import Engine, State
from forge_runtime.error import RequestError
from forge_runtime.http.endpoint import Endpoints
from forge_runtime.http.observer import Observer
from forge_runtime.http.refusal import error_response
from forge_runtime.lifecycle import AnyLifecycle
from forge_runtime.metric import Metrics

__all__ = ["App"]


class App:
    """The ASGI application of one engine."""

    OWN = ("/healthz", "/readyz", "/metrics")

    def __init__(self, engine: Engine, config: Config, metrics: Metrics, endpoints: Sequence[Endpoints]) -> None:
        self._engine = engine
        self._config = config
        self._metrics = metrics
        self._endpoints = endpoints
        routes = [
            *map(Route, self.OWN, (self._healthz, self._readyz, self._expose)),
            *(route for each in endpoints for route in each.routes()),
        ]
        starlette = Starlette(
            routes=routes,
            exception_handlers={RequestError: _refused, HTTPException: _http_error, Exception: _crashed},
        )
        # POST /api/infer/ is a mistake to be told, not a redirect that loses the body.
        starlette.router.redirect_slashes = False
        self.asgi = Observer(starlette, metrics)

    def load(self, server: AnyLifecycle) -> None:
        """Tell every endpoint of the model that it is there; in the model's thread."""
        for each in self._endpoints:
            each.load(server)

    async def _healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _readyz(self, request: Request) -> Response:
        state = self._engine.state
        body = {"status": state.value, "model": self._config.model.name}
        if state is State.READY:
            return JSONResponse(body)
        return JSONResponse(body, 503, {"retry-after": "5"})

    async def _expose(self, request: Request) -> Response:
        return Response(self._metrics.expose(), headers={"content-type": self._metrics.content_type})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # registered for nothing else
    return error_response(error, request.url.path)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    headers = tuple((error.headers or {}).items())
    refusal = RequestError(error.detail, status=error.status_code, code=code, headers=headers)
    return error_response(refusal, request.url.path)


async def _crashed(request: Request, error: Exception) -> Response:
    return error_response(RequestError("Internal error", status=500, code="internal_error"), request.url.path)
