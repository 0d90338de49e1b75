"""What the server can be asked, as an OpenAPI 3.1 document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from forge_runtime.config import Config
from forge_runtime.lifecycle import AnyLifecycle

__all__ = ["OpenApiEndpoints", "document"]

Json = dict[str, Any]

VERSION: Final = "1"
GUARDED: Final = ("/api/logs", "/api/shutdown")
HIDDEN: Final = ("/", "/openapi.json")


def _object(required: Sequence[str] = (), **properties: Json) -> Json:
    return {"type": "object", "properties": properties, **({"required": [*required]} if required else {})}


def _array(items: Json) -> Json:
    return {"type": "array", "items": items}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


TEXT: Final[Json] = {"type": "string"}
INTEGER: Final[Json] = {"type": "integer"}
NUMBER: Final[Json] = {"type": "number"}
TRUTH: Final[Json] = {"type": "boolean"}
TEXTS: Final[Json] = {"oneOf": [TEXT, _array(TEXT)]}
ANY: Final[Json] = {}

SAMPLING: Final[Mapping[str, Json]] = {
    "max_tokens": INTEGER,
    "temperature": {**NUMBER, "minimum": 0, "maximum": 2},
    "top_p": {**NUMBER, "minimum": 0, "maximum": 1},
    "n": {**INTEGER, "minimum": 1, "maximum": 8},
    "stop": TEXTS,
    "seed": INTEGER,
    "stream": TRUTH,
    "stream_options": _object(include_usage=TRUTH),
    "model": TEXT,
}
SCHEMAS: Final[Mapping[str, Json]] = {
    "Error": _object(
        ["error"],
        error=_object(
            ["message", "type", "param", "code"],
            message=TEXT,
            type=TEXT,
            param={"type": ["string", "null"]},
            code={"type": ["string", "null"]},
        ),
    ),
    "InferenceError": _object(["error"], error=TEXT),
    "Infer": _object(
        ["prompts"],
        prompts=TEXTS,
        gen=_object(
            max_length=INTEGER,
            max_new_tokens=INTEGER,
            temperature=NUMBER,
            top_p=NUMBER,
            do_sample=TRUTH,
            seed=INTEGER,
        ),
        details=TRUTH,
    ),
    "Completion": _object(["prompt"], prompt=TEXTS, **SAMPLING),
    "Chat": _object(
        ["messages"],
        messages=_array(_object(["role", "content"], role=TEXT, content=ANY)),
        max_completion_tokens=INTEGER,
        **SAMPLING,
    ),
    "Tensors": _object(
        ["inputs"],
        id=TEXT,
        inputs=_array(
            _object(
                ["name", "shape", "datatype"],
                name=TEXT,
                shape=_array(INTEGER),
                datatype=TEXT,
                data=ANY,
                parameters=_object(binary_data_size=INTEGER),
            )
        ),
        outputs=_array(_object(["name"], name=TEXT, parameters=_object(binary_data=TRUTH))),
    ),
}

JSON_TYPE: Final = "application/json"
OIP: Final = "InferenceError"


def _operation(
    summary: str,
    body: Json | None = None,
    answer: str = JSON_TYPE,
    errors: Sequence[int] = (),
    error: str = "Error",
) -> Json:
    responses: Json = {"200": {"description": "Done", "content": {answer: {}}}}
    for status in errors:
        responses[str(status)] = {"description": ERRORS[status], "content": {JSON_TYPE: {"schema": _ref(error)}}}
    operation: Json = {"summary": summary, "responses": responses}
    if body is not None:
        operation["requestBody"] = {"content": body}
    return operation


ERRORS: Final[Mapping[int, str]] = {
    400: "The request is wrong; `param` says where",
    401: "The token is missing or wrong",
    404: "There is no such thing here",
    408: "The body did not come in time",
    409: "It is being done already",
    413: "More than a request may bring",
    415: "A type that is not served",
    429: "The queue is full; `Retry-After` says when to come again",
    500: "A step failed; the log says why",
    503: "The model is not ready, or the server is about to end",
    504: "No answer within the deadline",
}
OF_THE_MODEL: Final = (400, 408, 413, 415, 429, 500, 503, 504)


def _json(name: str) -> Json:
    return {JSON_TYPE: {"schema": _ref(name)}}


PICTURE: Final[Json] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
TENSORS: Final[Json] = {**_json("Tensors"), **PICTURE}
PHASES: Final = _object(duration_s=NUMBER, cooldown_s=NUMBER, ramp_s=NUMBER, interval_s=NUMBER)
POWER: Final[Mapping[str, Json]] = {
    "get": _operation("Power now, or why it is not known"),
    "post": _operation(
        "Power of each phase; takes a minute", {JSON_TYPE: {"schema": PHASES}}, errors=[400, 401, 409, 429, 503]
    ),
}
OPERATIONS: Final[Mapping[str, tuple[str, Json]]] = {
    "/healthz": ("get", _operation("Whether the process serves")),
    "/readyz": ("get", _operation("Whether the model is ready", errors=[503])),
    "/metrics": ("get", _operation("Figures for Prometheus", answer="text/plain")),
    "/v1/models": ("get", _operation("The one model that is served")),
    "/v1/models/{name}": ("get", _operation("The same, by its name", errors=[404])),
    "/v1/completions": ("post", _operation("Continue texts", _json("Completion"), errors=(*OF_THE_MODEL, 404))),
    "/v1/chat/completions": ("post", _operation("Answer a conversation", _json("Chat"), errors=(*OF_THE_MODEL, 404))),
    "/v2": ("get", _operation("What the server speaks")),
    "/v2/health/live": ("get", _operation("Whether the process serves")),
    "/v2/health/ready": ("get", _operation("Whether the model is ready", errors=[503], error=OIP)),
    "/v2/models/{name}": (
        "get",
        _operation("What goes into the model, and what comes out", errors=[404, 503], error=OIP),
    ),
    "/v2/models/{name}/ready": ("get", _operation("Whether the model is ready", errors=[404, 503], error=OIP)),
    "/v2/models/{name}/infer": (
        "post",
        _operation("Run the model on tensors", TENSORS, errors=(*OF_THE_MODEL, 404), error=OIP),
    ),
    "/api/metrics": (
        "post",
        _operation(
            "The last requests, as TF2AIF and CECAIServe tell of them",
            {JSON_TYPE: {"schema": _object(all={"oneOf": [TRUTH, TEXT]}, number=INTEGER)}},
            errors=[400],
        ),
    ),
    "/api/logs": (
        "post",
        _operation(
            "The last lines of the log",
            {JSON_TYPE: {"schema": _object(lines=INTEGER)}},
            answer="text/plain",
            errors=[400, 401],
        ),
    ),
    "/api/shutdown": ("post", _operation("Finish what is begun, and end", errors=[401])),
}


class OpenApiEndpoints:
    """`/openapi.json`."""

    def __init__(self, config: Config, paths: Sequence[str], *, texts: bool) -> None:
        self._document = document(config.model.name, paths, texts=texts)

    def routes(self) -> Sequence[Route]:
        """Say which paths."""
        return [Route("/openapi.json", self._show)]

    def load(self, server: AnyLifecycle) -> None:
        """Nothing here depends on the model."""

    async def _show(self, request: Request) -> Response:
        return JSONResponse(self._document)


def document(model: str, paths: Sequence[str], *, texts: bool) -> Json:
    """Describe the routes at these paths; `texts` says whether `/api/infer` takes prompts."""
    found: Json = {}
    for path in paths:
        shown = path.replace(":path", "")
        if shown in HIDDEN:
            continue
        if shown == "/api/power":
            found[shown] = POWER
            continue
        method, operation = _operation_at(shown, texts=texts)
        names = [part[1:-1] for part in shown.split("/") if part.startswith("{")]
        if names:
            parameters = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in names]
            operation = {**operation, "parameters": parameters}
        if shown in GUARDED:
            operation = {**operation, "security": [{"token": []}]}
        found.setdefault(shown, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{model}, served by forge", "version": VERSION},
        "paths": found,
        "components": {"schemas": SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation_at(path: str, *, texts: bool) -> tuple[str, Json]:
    if path == "/api/infer":
        body = {**_json("Infer"), "text/plain": {"schema": TEXT}} if texts else PICTURE
        return "post", _operation("Ask the service, in its handler's own form", body, errors=OF_THE_MODEL)
    # A version changes nothing: there is one.
    return OPERATIONS[path.replace("/versions/{version}", "")]
