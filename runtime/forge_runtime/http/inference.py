"""The Open Inference Protocol's endpoints for a model of arrays."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from forge_runtime import tensor
from forge_runtime.backend import TensorBackend
from forge_runtime.config import Config
from forge_runtime.engine import Engine, State
from forge_runtime.error import RequestError
from forge_runtime.http import oip
from forge_runtime.http.visit import Visits
from forge_runtime.lifecycle import AnyLifecycle
from forge_runtime.method import Method, bind
from forge_runtime.tensor import Arrays, Signature, TensorRequest

__all__ = ["InferenceEndpoints"]

MODEL = "/v2/models/{name}"
VERSION = "1"


class InferenceEndpoints:
    """`/v2`: the model's own tensors, beside what the handler makes of pictures."""

    def __init__(self, engine: Engine, visits: Visits, config: Config) -> None:
        self._engine = engine
        self._visits = visits
        self._config = config
        self._server: AnyLifecycle | None = None
        self._signature: Signature | None = None

    def routes(self) -> Sequence[Route]:
        """Say which paths; each of a model is there with a version, too."""
        routes = [
            Route("/v2", self._metadata),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._ready),
        ]
        for path in (MODEL, f"{MODEL}/versions/{{version}}"):
            routes += [
                Route(path, self._model),
                Route(f"{path}/ready", self._model_ready),
                Route(f"{path}/infer", self._infer, methods=["POST"]),
            ]
        return routes

    def load(self, server: AnyLifecycle) -> None:
        """Ask the model what goes in and what comes out."""
        backend: TensorBackend = server.backend
        self._signature = backend.signature()
        self._server = server

    async def _metadata(self, request: Request) -> Response:
        return JSONResponse(oip.server_metadata("forge", VERSION))

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, request: Request) -> Response:
        ready = self._engine.state is State.READY
        return (
            JSONResponse({"ready": ready}, 200) if ready else JSONResponse({"ready": ready}, 503, {"retry-after": "5"})
        )

    async def _model_ready(self, request: Request) -> Response:
        self._check(request)
        return await self._ready(request)

    async def _model(self, request: Request) -> Response:
        self._check(request)
        if self._signature is None:
            self._engine.admit()  # says what it is waiting for
            raise RequestError("The model is not loaded", status=503, code="loading")
        inputs, outputs = self._signature
        return JSONResponse(oip.metadata(self._config.model.name, VERSION, self._config.backend, inputs, outputs))

    async def _infer(self, request: Request) -> Response:
        visit = self._visits.open(request, f"{MODEL}/infer")
        try:
            self._check(request)
            self._engine.admit()
            headers: dict[str, str] = {}
            method = self._method(headers)
            body = await visit.read()
            content = await visit.wait(self._engine.answer(method, body, request.headers, visit.exchange))
        except BaseException as error:
            refusal = visit.refuse(error)
            if not isinstance(error, Exception):
                raise
            raise refusal from None
        visit.close(200)
        return Response(content, headers=headers)

    def _check(self, request: Request) -> None:
        name, version = request.path_params["name"], request.path_params.get("version", VERSION)
        if name != self._config.model.name or version != VERSION:
            served = f"`{self._config.model.name}`, version {VERSION}"
            text = f"There is no model {name[:80]!a} of version {version[:40]!a} here; served is {served}"
            raise RequestError(text, status=404, code="model_not_found")

    def _method(self, headers: dict[str, str]) -> Method:
        """Return the steps; `encode` adds to the headers of the answer."""
        server, signature = self._server, self._signature
        assert server is not None and signature is not None  # loaded before the first request is admitted
        latency = self._config.server.mode == "latency"

        def lane(request: TensorRequest) -> Hashable:
            key = tensor.batch_key(request)
            return None if key is None else ("tensors", key)

        def encode(answer: tuple[TensorRequest, Arrays]) -> bytes:
            body, found = oip.encode(*answer, model_name=self._config.model.name, model_version=VERSION)
            headers.update(found)
            return body

        return Method(
            decode=lambda body, given: oip.parse(body, given, *signature),
            preprocess=lambda asked: asked,
            count=tensor.count,
            bind=bind,
            lane=lane,
            infer=lambda asked: tensor.infer_batch(
                server.backend, signature, asked, server.batch_size, fill=not latency
            ),
            postprocess=lambda asked, results: (asked, results),
            encode=encode,
        )
