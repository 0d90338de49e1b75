"""`/api/power`: what the service draws in each of its phases, measured while it serves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from forge_runtime.config import Config
from forge_runtime.engine import Engine, State
from forge_runtime.error import RequestError
from forge_runtime.http.body import BodyReader
from forge_runtime.http.legacy import check_token
from forge_runtime.http.visit import Visits
from forge_runtime.lifecycle import AnyLifecycle
from forge_runtime.metric import Metrics
from forge_runtime.power.discovery import Found
from forge_runtime.power.idle import IdleBench
from forge_runtime.power.meter import measure
from forge_runtime.power.monitor import PowerMonitor
from forge_runtime.power.settings import PowerSettings, parse_settings
from forge_runtime.table import parse_json

__all__ = ["PowerEndpoints"]

LOADING = "Sensors are looked for when the model is loaded"


class PowerEndpoints:
    """A measurement by POST, one at a time; the present power by GET."""

    def __init__(
        self, engine: Engine, visits: Visits, config: Config, metrics: Metrics, find: Callable[[], Found]
    ) -> None:
        self._engine = engine
        self._config = config
        self._find = find
        self._bench = IdleBench(engine, lambda: len(visits))
        self._bodies = BodyReader(config.server)
        self._thread = ThreadPoolExecutor(1, "power")
        self._busy = False
        self._found: Found | None = None
        self._monitor: PowerMonitor | None = None
        metrics.watch("forge_power_watts", "Power, by rail and in total; absent without a sensor", self._watts, "rail")

    def routes(self) -> Sequence[Route]:
        """Say which paths."""
        return [Route("/api/power", self._power, methods=["GET", "POST"])]

    def load(self, server: AnyLifecycle) -> None:
        """Look for sensors, which may take a second."""
        self._found = self._find()
        self._monitor = PowerMonitor(self._found)
        self._monitor.start()

    def close(self) -> None:
        """End the threads; a measurement ends by itself once the server drains."""
        if self._monitor is not None:
            self._monitor.stop()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _watts(self) -> dict[str, float] | None:
        watts = self._monitor.watts() if self._monitor is not None else None
        return None if watts is None else dict(watts)

    async def _power(self, request: Request) -> Response:
        if request.method != "POST":
            reason = LOADING if self._monitor is None else self._monitor.reason
            return JSONResponse({"watts": self._watts(), "reason": reason, "measuring": self._busy})
        if self._config.server.admin_token:
            check_token(request, self._config.server.admin_token)
        settings = parse_settings(_value(await self._bodies.read_small(request)), PowerSettings())
        self._engine.admit()
        if self._busy:
            raise RequestError("Power is being measured already", status=409, code="busy")
        self._busy = True
        try:
            return JSONResponse(await self._measure(request, settings))
        finally:
            self._busy = False

    async def _measure(self, request: Request, settings: PowerSettings) -> dict[str, object]:
        assert self._found is not None  # admitted: so it is loaded
        left = threading.Event()

        def cancelled() -> bool:
            return left.is_set() or self._engine.state is State.DRAINING

        call = partial(measure, self._found, self._bench, settings, cancelled=cancelled)
        work: asyncio.Future[Any] = asyncio.get_running_loop().run_in_executor(self._thread, call)
        gone: asyncio.Future[Any] = asyncio.ensure_future(request.receive())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            left.set()
            # It ends within a tenth of a second; no other may begin before.
            measured: dict[str, object] = await work
            return measured
        finally:
            left.set()
            gone.cancel()


def _value(body: bytes) -> object:
    """Read the body; none asks for nothing in particular."""
    if not body.strip():
        return {}
    try:
        return parse_json(body.decode())
    except ValueError as error:
        raise RequestError(f"The body is not JSON: {error}", code="invalid_json") from None
