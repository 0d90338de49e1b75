"""What TF2AIF's and CECAIServe's clients ask for beside answers: metrics, logs, the end of the server."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from forge_runtime.config import Config
from forge_runtime.engine import Engine
from forge_runtime.error import Fault, RequestError
from forge_runtime.http.body import BodyReader
from forge_runtime.journal import Journal, Shape
from forge_runtime.lifecycle import AnyLifecycle
from forge_runtime.log import Tail
from forge_runtime.table import Table, parse_json

__all__ = ["LegacyEndpoints", "check_token"]

TRUE, FALSE = "True", "False"
MAX_COUNT = 10**6


class LegacyEndpoints:
    """`/api/metrics`, and where they are asked for `/api/logs` and `/api/shutdown`."""

    def __init__(
        self, engine: Engine, config: Config, journal: Journal, shape: Shape, tail: Tail, stop: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._config = config
        self._journal = journal
        self._shape = shape
        self._tail = tail
        self._stop = stop
        self._bodies = BodyReader(config.server)
        self._started = time.time()

    def routes(self) -> Sequence[Route]:
        """Say which paths."""
        routes = [Route("/api/metrics", self._metrics, methods=["POST"])]
        if self._config.server.logs:
            routes.append(Route("/api/logs", self._logs, methods=["POST"]))
        if self._config.server.shutdown:
            routes.append(Route("/api/shutdown", self._shutdown, methods=["POST"]))
        return routes

    def load(self, server: AnyLifecycle) -> None:
        """Nothing here depends on the model."""

    async def _metrics(self, request: Request) -> Response:
        table = _object(await self._bodies.read_small(request))
        everything = _truth(table, "all")
        count = table.integer("number", None, 1, MAX_COUNT)
        if not table.faults and not everything and count is None:
            table.faults.append(Fault("number", "Expected a whole number from 1, or `all`"))
        _close(table)
        shown = None if everything else count
        document = self._journal.document(self._config, self._engine.once, shown, self._shape, self._started)
        return JSONResponse(document)

    async def _logs(self, request: Request) -> Response:
        check_token(request, self._config.server.admin_token)
        table = _object(await self._bodies.read_small(request))
        count = table.integer("lines", self._tail.size, 1, self._tail.size)
        _close(table)
        return PlainTextResponse("".join(f"{line}\n" for line in self._tail.last(count)))

    async def _shutdown(self, request: Request) -> Response:
        check_token(request, self._config.server.admin_token)
        _close(_object(await self._bodies.read_small(request)))
        self._stop()
        return JSONResponse({"status": "draining"})


def check_token(request: Request, token: str) -> None:
    """Raise RequestError where a request does not bear the token."""
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        headers = (("www-authenticate", "Bearer"),)
        raise RequestError("Expected `Authorization: Bearer TOKEN`", status=401, code="unauthorized", headers=headers)


def _object(body: bytes) -> Table:
    """Read an object; no body is an empty one."""
    try:
        value = parse_json(body.decode()) if body.strip() else {}
    except ValueError as error:
        raise RequestError(f"The body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise RequestError("Expected an object")
    return Table(value, faults=[])


def _truth(table: Table, key: str) -> bool:
    """Read a truth; their clients send it as a string."""
    value = table.take(key)
    if value in (TRUE, FALSE, None) or isinstance(value, bool):
        return value is True or value == TRUE
    shown = json.dumps(value)[:40]
    table.faults.append(Fault(key, f'Expected true, false, "{TRUE}" or "{FALSE}", got `{shown}`'))
    return False


def _close(table: Table) -> None:
    table.close()
    if table.faults:
        raise RequestError("; ".join(map(str, table.faults[:8])), param=table.faults[0].place)
