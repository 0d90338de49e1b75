"""One model served over HTTP, from the open port to the drained end.

uvicorn alone raises SIGTERM again after a clean drain, so that the process ends with
143 and an orchestrator counts a failure. Here signals are the service's: it takes no
more requests, waits for those in flight, and only then tells uvicorn to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Generator
from dataclasses import asdict
from functools import partial

import uvicorn

from forge_runtime import log
from forge_runtime.backend import Backend, open_backend
from forge_runtime.config import Config, ServerConfig
from forge_runtime.engine import Engine, State
from forge_runtime.exchange import Limits
from forge_runtime.http.app import App
from forge_runtime.http.catalogue import model_endpoints
from forge_runtime.http.connection import ConnectionLimits, Connections, raise_descriptor_limit
from forge_runtime.http.endpoint import Endpoints
from forge_runtime.http.legacy import LegacyEndpoints
from forge_runtime.http.listener import stop_listening
from forge_runtime.http.openapi import OpenApiEndpoints
from forge_runtime.http.page import PageEndpoints
from forge_runtime.http.power import PowerEndpoints
from forge_runtime.http.visit import Visits
from forge_runtime.journal import Journal, Shape
from forge_runtime.lifecycle import AnyLifecycle
from forge_runtime.metric import Metrics
from forge_runtime.power.discovery import Found, find_readers
from forge_runtime.record import Sink
from forge_runtime.server import BaseServer
from forge_runtime.timeseries import TimeSeries, TimeSeriesConfig
from forge_runtime.worker import Batching

__all__ = ["EXIT_FAILED", "EXIT_OK", "EXIT_USAGE", "Service"]

logger = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1  # the model cannot be loaded, the port cannot be opened
EXIT_USAGE = 2  # the configuration or the handler is wrong

BACKLOG = 2048
FLUSH_S = 5
"""For clients to read what was sent, after the drain."""
SERIES_S = 2.0
"""For points that are not written yet."""
POLL_S = 0.02


class Service:
    """A server, its socket and its end; run once."""

    def __init__(
        self,
        config: Config,
        *,
        handler: type[AnyLifecycle] = BaseServer,
        backend: Callable[[], Backend] | None = None,
        tail: log.Tail | None = None,
        sensors: Callable[[], Found] = find_readers,
    ) -> None:
        self._config = config
        self._socket: socket.socket | None = None
        # Plain values: a signal handler may come while a lock of the main thread is held.
        self._stopping = False
        self._hurry = False
        self._signals = 0
        self._wake: Callable[[], object] | None = None
        self._backend = backend or (lambda: open_backend(config.backend))
        metrics = Metrics()
        server = config.server
        limits = Limits(server.queue_size, server.max_items, server.hang_s, server.load_timeout_s)
        # Both are made in the model's thread: starting a process takes a while.
        self._engine = Engine(lambda: handler(config, self._backend()), metrics, limits, _batching(config))
        journal = Journal(config.server.metrics_list_size)
        self._connections = Connections(
            _connection_limits(config.server),
            descriptors=raise_descriptor_limit(),
            on_refused=lambda status: metrics.connections_refused.labels(str(status)).inc(),
        )
        self._series = _time_series(config, metrics)
        sinks: list[Sink] = [metrics, journal, *([self._series] if self._series is not None else [])]
        self._visits = Visits(config.server, sinks)
        metrics.in_flight.set_function(lambda: float(len(self._visits)))
        shape: Shape = "cecaiserve" if issubclass(handler, BaseServer) else "tf2aif"
        self._power = PowerEndpoints(self._engine, self._visits, config, metrics, sensors)
        endpoints: list[Endpoints] = [
            self._power,
            *model_endpoints(handler, self._engine, self._visits, config),
            LegacyEndpoints(self._engine, config, journal, shape, tail or log.Tail(), self.stop),
        ]
        paths = [*App.OWN, *(route.path for each in endpoints for route in each.routes())]
        texts = issubclass(handler, BaseServer)
        endpoints += [OpenApiEndpoints(config, paths, texts=texts), PageEndpoints(config, texts=texts)]
        self._app = App(self._engine, config, metrics, endpoints)

    def bind(self) -> tuple[str, int]:
        """Open the port; return the address, with the port that was given for 0."""
        server = self._config.server
        family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
        self._socket = socket.create_server((server.host, server.port), family=family, backlog=BACKLOG)
        address = self._socket.getsockname()
        return str(address[0]), int(address[1])

    def run(self) -> int:
        """Serve until `stop`, SIGTERM, SIGINT or a failed load; return the exit status."""
        if self._socket is None:
            try:
                self.bind()
            except OSError as error:
                place = f"{self._config.server.host}:{self._config.server.port}"
                log.event(logger, logging.ERROR, f"Cannot listen on {place}: {error}")
                return EXIT_FAILED
        if threading.current_thread() is threading.main_thread():
            # Not the loop's handlers: those end with the loop, and a second SIGTERM
            # on the way out would make the status 143 after all.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self._signalled())
        return asyncio.run(self._serve())

    def stop(self) -> None:
        """Begin to drain. From any thread, and from a signal's handler."""
        self._stopping = True
        wake = self._wake
        if wake is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                wake()

    def _signalled(self) -> None:
        # A second signal does not wait; one after `/api/shutdown` is the first.
        self._hurry = self._signals > 0
        self._signals += 1
        self.stop()

    def end(self, timeout: float = 0.25) -> bool:
        """End the threads after `run`; False where a call still holds the model's."""
        self._power.close()
        if self._series is not None:
            self._series.close(SERIES_S)
        return self._engine.stop(timeout)

    async def _serve(self) -> int:
        assert self._socket is not None  # run() has bound it
        asyncio.get_running_loop().set_exception_handler(self._connections.loop_error)
        server = _Server(self._uvicorn())
        serving = asyncio.ensure_future(server.serve(sockets=[self._socket]))
        host, port = self._socket.getsockname()[:2]
        fields = {
            "host": host,
            "port": port,
            "model": self._config.model.name,
            "platform": self._config.platform,
        }
        log.event(logger, logging.INFO, "Listening", fields)
        self._engine.start(self._app.load, self.stop)
        if self._series is not None:
            self._series.start()
        await self._until_stopped(serving)
        failed = self._engine.state is State.FAILED
        if not failed:
            await self._drain()
        # What is still in the queue of the socket would be reset with it.
        stop_listening(self._socket)
        server.should_exit = True
        await serving
        return EXIT_FAILED if failed else EXIT_OK

    async def _until_stopped(self, serving: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        serving.add_done_callback(lambda _: stopped.set())
        self._wake = partial(loop.call_soon_threadsafe, stopped.set)
        if not self._stopping:  # else it came before there was anything to wake
            await stopped.wait()

    async def _drain(self) -> None:
        self._engine.drain()
        self._connections.drain()
        log.event(logger, logging.INFO, "Draining", {"in_flight": len(self._visits)})
        loop = asyncio.get_running_loop()
        end = loop.time() + self._config.server.drain_s
        while len(self._visits) and not self._hurry and loop.time() < end:
            await asyncio.sleep(POLL_S)
        if len(self._visits):
            log.event(logger, logging.WARNING, "Not drained in time", {"in_flight": len(self._visits)})
            self._visits.abort()

    def _uvicorn(self) -> uvicorn.Config:
        return uvicorn.Config(
            self._app.asgi,
            # Named, so that what else an image holds does not choose for us.
            http=self._connections.protocol(),
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            proxy_headers=False,
            timeout_graceful_shutdown=FLUSH_S,
        )


def _time_series(config: Config, metrics: Metrics) -> TimeSeries | None:
    """Return what writes to Redis, where that is asked for; StartError where the image lacks its library."""
    if not config.redis.send:
        return None
    redis = config.redis
    series = TimeSeries(
        TimeSeriesConfig(
            host=redis.host,
            port=redis.port,
            password=redis.password or None,
            retention_ms=redis.retention_s * 1000,
            buffer=redis.buffer,
            precision=config.params.precision,
            **asdict(config.identity),
        )
    )

    def points() -> dict[str, float]:
        return {
            "written": series.written,
            "dropped": series.dropped,
            "refused": series.refused,
            "pending": series.pending,
        }

    metrics.watch("forge_redis_points", "Points of time series, by what became of them", points, "state")
    return series


def _connection_limits(server: ServerConfig) -> ConnectionLimits:
    return ConnectionLimits(
        header_timeout_s=server.header_timeout_s,
        keep_alive_s=server.keep_alive_s,
        write_timeout_s=server.write_timeout_s,
        max_connections=server.max_connections,
    )


def _batching(config: Config) -> Batching:
    if config.server.mode == "latency" or config.params.batch_size == 1:
        return Batching()
    return Batching(config.params.batch_size, config.params.batch_wait_ms / 1000)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
