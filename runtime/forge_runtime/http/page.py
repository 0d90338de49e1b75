"""A page at `/`: the model to try, the server's figures as they move."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from forge_runtime.config import Config
from forge_runtime.lifecycle import AnyLifecycle

__all__ = ["PageEndpoints"]

FILE: Final = Path(__file__).with_name("page.html")
PLACE: Final = "{{about}}"
ESCAPED: Final = {ord(char): f"\\u{ord(char):04x}" for char in "<>&"}
"""What could end the element that holds JSON, or begin another."""


class PageEndpoints:
    """`/`, one document that asks for nothing but this server's own endpoints."""

    def __init__(self, config: Config, *, texts: bool) -> None:
        source = FILE.read_text(encoding="utf-8")
        self._body = source.replace(PLACE, _about(config, texts=texts)).encode()
        self._headers: Mapping[str, str] = {
            "cache-control": "no-cache",
            "content-security-policy": _policy(source),
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
        }

    def routes(self) -> Sequence[Route]:
        """Say which paths."""
        return [Route("/", self._show)]

    def load(self, server: AnyLifecycle) -> None:
        """Nothing here depends on the model."""

    async def _show(self, request: Request) -> Response:
        return HTMLResponse(self._body, headers=dict(self._headers))


def _about(config: Config, *, texts: bool) -> str:
    """Return what the page is to know of this server, as JSON for a script element."""
    params = config.params
    value = {
        "model": config.model.name,
        "platform": config.platform,
        "backend": config.backend,
        "texts": texts,
        "body_limit": config.server.body_limit,
        "max_length": params.max_length,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "do_sample": params.do_sample,
    }
    return json.dumps(value).translate(ESCAPED)


def _policy(source: str) -> str:
    """Allow this page's own script and style, by their hashes, and requests to this server; nothing else."""
    (script,) = re.findall(r'<script type="module">(.*?)</script>', source, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", source, re.DOTALL)
    rules = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "connect-src": "'self'",
        "img-src": "'self' blob: data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
