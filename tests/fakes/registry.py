"""A registry on this machine: the distribution API, its token dance, blobs on a host of their own, and its faults.

`tests.fakes.push` has the half that takes what is pushed.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

Answer = Callable[[BaseHTTPRequestHandler], None]
OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."


class Store(Protocol):
    """Answers what has to do with writing."""

    def answer(self, registry: Registry, handler: BaseHTTPRequestHandler) -> bool:
        """Answer a request; False to leave it to whoever reads."""


@dataclass
class Registry:
    """Documents and blobs by digest, tags by repository and name."""

    address: str = ""
    blobs_address: str = ""
    """Another host, where blobs are; empty for the registry itself."""
    documents: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    login: tuple[str, str] | None = None
    """Who may pull; everybody where it is None."""
    scheme: str = "Bearer"
    """How it asks for a login."""
    realm: str = ""
    """Where it sends for a token; itself unless told."""
    faults: dict[str, list[Answer]] = field(default_factory=dict)
    """By the last part of a path: answers that are given once, before the right one."""
    log: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Host (`registry` or `blobs`), path, headers."""
    issued: int = 0
    scopes: dict[str, str] = field(default_factory=dict)
    """What each token is good for."""
    store: Store | None = None
    """What takes pushes; it then knows which repository has which blob."""

    @property
    def host(self) -> str:
        """Its name with port."""
        return self.address.removeprefix("http://")

    def asked(self, part: str, host: str = "") -> list[dict[str, str]]:
        """Headers of the requests whose path has a part."""
        return [headers for where, path, headers in self.log if part in path and host in ("", where)]

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Keep a blob; its descriptor."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def document(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Keep an index or manifest; its descriptor."""
        data = json.dumps(value).encode()
        return {
            "mediaType": value["mediaType"],
            "digest": self.document_bytes(value["mediaType"], data),
            "size": len(data),
        }

    def document_bytes(self, media_type: str, data: bytes) -> str:
        """Keep a document as it is; its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.documents[digest] = (media_type, data)
        return digest

    def image(self, tars: Iterable[bytes], *, arch: str = "amd64", **config: Any) -> dict[str, Any]:
        """Keep an image with gzipped layers; the descriptor of its manifest."""
        plain = list(tars)
        kind = f"{OCI}layer.v1.tar+gzip"
        layers = [self.blob(gzip.compress(data, mtime=0), kind) for data in plain]
        about = {
            "architecture": arch,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in plain]},
        }
        named = self.blob(json.dumps(about).encode(), f"{OCI}config.v1+json")
        return self.document(
            {"schemaVersion": 2, "mediaType": f"{OCI}manifest.v1+json", "config": named, "layers": layers}
        )

    def index(self, *manifests: tuple[dict[str, Any], str]) -> dict[str, Any]:
        """Keep an index of manifests by architecture; its descriptor."""
        entries = [{**one, "platform": {"architecture": arch, "os": "linux"}} for one, arch in manifests]
        return self.document({"schemaVersion": 2, "mediaType": f"{OCI}index.v1+json", "manifests": entries})

    def tag(self, repository: str, tag: str, described: Mapping[str, Any]) -> str:
        """Name a document; its digest."""
        self.tags[repository, tag] = described["digest"]
        return str(described["digest"])

    def answer(self, host: str, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        headers = {key.lower(): value for key, value in handler.headers.items()}
        self.log.append((host, handler.path, headers))
        path = urlsplit(handler.path).path
        last = path.rpartition("/")[2]
        if fault := self.faults.get(f"{handler.command} {last}") or self.faults.get(last):
            fault.pop(0)(handler)
        elif host == "blobs" and self.store is not None:
            self.store.answer(self, handler)
        elif host == "blobs":
            ranged(handler, self.blobs[path.removeprefix("/")])
        elif path == "/token":
            self._token(handler, headers)
        elif self.login and not self._may(headers, scope := self._scope(handler)):
            realm = self.realm or f"{self.address}/token"
            challenge = f'Bearer realm="{realm}",service="here",scope="{scope}"'
            reply(
                handler, 401, b"{}", {"WWW-Authenticate": challenge if self.scheme == "Bearer" else 'Basic realm="x"'}
            )
        elif self.store is None or not self.store.answer(self, handler):
            self._content(handler, path)

    def _scope(self, handler: BaseHTTPRequestHandler) -> str:
        parts = urlsplit(handler.path)
        repository = re.split("/(?:manifests|blobs|tags|referrers)/", parts.path.removeprefix("/v2/"))[0]
        scopes = [f"repository:{repository}:pull{'' if handler.command in ('GET', 'HEAD') else ',push'}"]
        scopes += [f"repository:{origin}:pull" for origin in parse_qs(parts.query).get("from", [])]
        return " ".join(scopes)

    def _may(self, headers: Mapping[str, str], scope: str) -> bool:
        given = headers.get("authorization", "")
        if self.scheme != "Bearer":
            return given == self._basic()
        granted = self.scopes.get(given.removeprefix("Bearer "), "").split()
        return all(any(each.startswith(one) for each in granted) for one in scope.split())

    def _basic(self) -> str:
        user, password = self.login or ("", "")
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def _token(self, handler: BaseHTTPRequestHandler, headers: Mapping[str, str]) -> None:
        length = int(headers.get("content-length", 0))
        form = parse_qs(handler.rfile.read(length).decode())
        granted = form.get("refresh_token") == ["identity"] if length else headers.get("authorization") == self._basic()
        if not granted:
            reply(handler, 401, b"{}")
            return
        self.issued += 1
        asked = form.get("scope", []) or parse_qs(urlsplit(handler.path).query).get("scope", [])
        self.scopes[f"issued-{self.issued}"] = " ".join(asked)
        reply(handler, 200, json.dumps({"token": f"issued-{self.issued}"}).encode())

    def _content(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        repository, kind, reference = path.removeprefix("/v2/").rsplit("/", 2)
        if kind == "blobs" and self.blobs_address:
            reply(handler, 307, b"", {"Location": f"{self.blobs_address}/{reference}"})
        elif kind == "blobs" and reference in self.blobs:
            ranged(handler, self.blobs[reference])
        elif (digest := self.tags.get((repository, reference), reference)) in self.documents:
            media_type, data = self.documents[digest]
            reply(handler, 200, data, {"Content-Type": media_type})
        else:
            reply(handler, 404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    """Answer with a status and a body."""
    handler.send_response(status)
    for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        handler.send_header(key, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def ranged(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    """Answer with what is asked for."""
    begin = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    more = {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"} if begin else {}
    reply(handler, 206 if begin else 200, data[begin:], more)


def broken(length: int, after: int) -> Answer:
    """Promise so many bytes of zeros, send fewer, and hang up."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(b"\0" * after)
        handler.wfile.flush()
        handler.connection.shutdown(2)

    return answer


@contextmanager
def open_registry(*, blobs_elsewhere: bool = False) -> Iterator[Registry]:
    """Serve a registry, and where asked its blobs on another port, which is another host."""
    here = Registry()

    def serve(host: str) -> ThreadingHTTPServer:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                here.answer(host, self)

            do_HEAD = do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                """Be silent."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    servers = [serve("registry"), *([serve("blobs")] if blobs_elsewhere else [])]
    here.address = f"http://127.0.0.1:{servers[0].server_port}"
    here.blobs_address = f"http://127.0.0.1:{servers[1].server_port}" if blobs_elsewhere else ""
    try:
        yield here
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
