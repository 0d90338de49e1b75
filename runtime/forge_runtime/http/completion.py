"""OpenAI's endpoints for a model that continues text."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from forge_runtime.backend import Generation
from forge_runtime.chat import ChatTemplate, load_template
from forge_runtime.config import Config
from forge_runtime.engine import Engine
from forge_runtime.error import RequestError
from forge_runtime.http import openai_answer as form
from forge_runtime.http.openai import Call, CompletionRequest, check_model, parse_chat, parse_completion
from forge_runtime.http.stream import EventStream
from forge_runtime.http.visit import Visit, Visits
from forge_runtime.lifecycle import AnyLifecycle
from forge_runtime.method import Emit, Method, bind, infer_of, lane_of

__all__ = ["CompletionEndpoints"]

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
JSON = "application/json"

Parse = Callable[[bytes, Call], CompletionRequest]


class CompletionEndpoints:
    """`/v1/models`, `/v1/completions`, `/v1/chat/completions`; the handler's `preprocess` and `infer` act here, too."""

    def __init__(self, engine: Engine, visits: Visits, config: Config) -> None:
        self._engine = engine
        self._visits = visits
        self._config = config
        self._created = int(time.time())
        self._server: AnyLifecycle | None = None
        self._template: ChatTemplate | None = None

    def routes(self) -> Sequence[Route]:
        """Say which paths."""
        return [
            Route("/v1/models", self._models),
            Route("/v1/models/{name:path}", self._model),
            Route(COMPLETIONS, self._completions, methods=["POST"]),
            Route(CHAT, self._chat, methods=["POST"]),
        ]

    def load(self, server: AnyLifecycle) -> None:
        """Take the handler's hooks, and read the template of conversations."""
        self._template = load_template(self._config.model)
        self._server = server

    async def _models(self, request: Request) -> Response:
        return Response(form.models(*self._facts()), media_type=JSON)

    async def _model(self, request: Request) -> Response:
        check_model(request.path_params["name"], self._config.model.name)
        return Response(form.model(*self._facts()), media_type=JSON)

    def _facts(self) -> tuple[str, int, int]:
        return self._config.model.name, self._created, self._config.params.max_length

    async def _completions(self, request: Request) -> ASGIApp:
        return await self._answer(request, COMPLETIONS, lambda body, call: parse_completion(body, self._params, call))

    async def _chat(self, request: Request) -> ASGIApp:
        def parse(body: bytes, call: Call) -> CompletionRequest:
            assert self._template is not None  # loaded before the first request is admitted
            return parse_chat(body, self._params, call, self._template)

        return await self._answer(request, CHAT, parse)

    @property
    def _params(self) -> Any:
        return self._config.params

    async def _answer(self, request: Request, path: str, parse: Parse) -> ASGIApp:
        visit = self._visits.open(request, path)
        try:
            self._engine.admit()
            method = self._method(parse, visit.id)
            body = await visit.read()
            asked, prepared = await visit.wait(self._engine.prepare(method, body, request.headers, visit.exchange))
            if asked.stream:
                return await self._stream(visit, method, asked, prepared)
            content = await visit.wait(self._engine.finish(method, asked, prepared, visit.exchange))
        except BaseException as error:
            refusal = visit.refuse(error)
            if not isinstance(error, Exception):
                raise
            raise refusal from None
        visit.close(200)
        return Response(content, media_type=JSON)

    async def _stream(
        self, visit: Visit, method: Method, asked: CompletionRequest, prepared: CompletionRequest
    ) -> EventStream:
        run = partial(self._engine.run, method, prepared, visit.exchange)
        stream = EventStream(visit, _Chunks(asked), run)
        await stream.begun()
        return stream

    def _method(self, parse: Parse, request_id: str) -> Method:
        server = self._server
        assert server is not None  # loaded before the first request is admitted
        call = Call(self._config.model.name, request_id, int(time.time()), self._config.server.max_items)
        return Method(
            decode=lambda body, headers: parse(body, call),
            preprocess=lambda asked: replace(asked, request=server.preprocess(asked.request)),
            count=lambda asked: server.count(asked.request),
            bind=_bind,
            lane=lane_of(server),
            infer=infer_of(server),
            postprocess=lambda asked, results: (asked, _checked(asked, results)),
            encode=lambda answer: form.answer(*answer),
        )


class _Chunks:
    """The events of one stream."""

    def __init__(self, asked: CompletionRequest) -> None:
        self._asked = asked
        self._sent = [0] * len(asked.request.prompts)

    def begin(self) -> bytes:
        return form.first_chunks(self._asked)

    def text(self, index: int, text: str) -> bytes:
        self._sent[index] += len(text)
        return form.text_chunk(self._asked, index, text)

    def end(self, results: Sequence[Generation]) -> bytes:
        events = []
        for index, result in enumerate(_checked(self._asked, results)):
            # A handler may have its texts from elsewhere, whole.
            if rest := result.text[self._sent[index] :]:
                events.append(form.text_chunk(self._asked, index, rest))
            events.append(form.finish_chunk(self._asked, index, result.finish_reason))
        if self._asked.include_usage:
            events.append(form.usage_chunk(self._asked, results))
        return b"".join([*events, form.DONE])

    def fail(self, error: RequestError) -> bytes:
        return form.error_event(error)


def _bind(asked: CompletionRequest, cancelled: Callable[[], bool], emit: Emit | None) -> object:
    return bind(asked.request, cancelled, emit)


def _checked(asked: CompletionRequest, results: Sequence[Generation]) -> Sequence[Generation]:
    if len(results) != len(asked.request.prompts):
        raise ValueError(f"{len(asked.request.prompts)} prompts, but {len(results)} results")
    return results
