"""A group of endpoints, and the way of a request through one that gives a whole answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from forge_runtime.engine import Engine
from forge_runtime.http.visit import Visits
from forge_runtime.lifecycle import AnyLifecycle
from forge_runtime.method import Method, handler_method

__all__ = ["Endpoints", "InferEndpoint", "answer"]


class Endpoints(Protocol):
    """What serves some paths."""

    def routes(self) -> Sequence[Route]:
        """Say which."""
        ...

    def load(self, server: AnyLifecycle) -> None:
        """Prepare what depends on the loaded model; what is raised here ends the process."""
        ...


class InferEndpoint:
    """`/api/infer`, by the handler's hooks."""

    PATH = "/api/infer"

    def __init__(self, engine: Engine, visits: Visits) -> None:
        self._engine = engine
        self._visits = visits
        self._method: Method | None = None

    def routes(self) -> Sequence[Route]:
        """Say which paths."""
        return [Route(self.PATH, self._infer, methods=["POST"])]

    def load(self, server: AnyLifecycle) -> None:
        """Take the handler's hooks."""
        self._method = handler_method(server)

    async def _infer(self, request: Request) -> Response:
        return await answer(request, self.PATH, self._engine, self._visits, self._method)


async def answer(
    request: Request,
    path: str,
    engine: Engine,
    visits: Visits,
    method: Method | None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Take a request through all steps of a method; one that is not loaded yet refuses it."""
    visit = visits.open(request, path)
    try:
        engine.admit()
        assert method is not None  # admitted: so it is loaded
        body = await visit.read()
        content = await visit.wait(engine.answer(method, body, request.headers, visit.exchange))
    except BaseException as error:
        refusal = visit.refuse(error)
        if not isinstance(error, Exception):
            raise
        raise refusal from None
    visit.close(200)
    return Response(content, media_type=method.media_type, headers=dict(headers or {}))
