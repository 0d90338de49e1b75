"""The body of every response that is not a result."""

from __future__ import annotations

from starlette.responses import JSONResponse

from forge_runtime.error import RequestError

__all__ = ["client_left", "error_response"]

CLIENT_LEFT = 499
RETRIED = (429, 503)
RETRY_S = "5"


def error_response(error: RequestError, path: str = "") -> JSONResponse:
    """Return what OpenAI's clients read: message, type, param, code; below /v2 a text, as OIP has it."""
    headers = dict(error.headers)
    if error.status in RETRIED:
        headers.setdefault("retry-after", RETRY_S)
    if path.startswith("/v2"):
        return JSONResponse({"error": str(error)}, error.status, headers)
    body = {
        "error": {
            "message": error.message,
            "type": _type(error.status),
            "param": error.param,
            "code": error.code,
        }
    }
    return JSONResponse(body, error.status, headers)


def client_left() -> RequestError:
    """Return what nobody will read, but the log and the metrics."""
    return RequestError("The client has left", status=CLIENT_LEFT, code="client_left")


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"
