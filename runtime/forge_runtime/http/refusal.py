"""The body of every response that is not a result."""

from __future__ import annotations

from starlette.responses import JSONResponse

from forge_runtime.error import RequestError

__all__ = ["error_response"]


def error_response(error: RequestError, path: str = "") -> JSONResponse:
    """Return what OpenAI's clients read: message, type, param, code; below /v2 a text, as OIP has it."""
    if path.startswith("/v2"):
        return JSONResponse({"error": str(error)}, error.status, dict(error.headers))
    body = {
        "error": {
            "message": error.message,
            "type": _type(error.status),
            "param": error.param,
            "code": error.code,
        }
    }
    return JSONResponse(body, error.status, dict(error.headers))


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"
