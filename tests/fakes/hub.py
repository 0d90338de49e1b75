"""A hub of models on this machine: Hugging Face's protocol, large objects on a host of their own, and its faults."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

Answer = Callable[[BaseHTTPRequestHandler], None]
PAGE = 2
"""Files on a page of a listing: few, so that there are several pages."""
LARGE = (".safetensors", ".gguf", ".onnx", ".bin")
"""Ends of the names of files that are large objects."""


@dataclass
class Hub:
    """Repositories by name, each with branches and commits."""

    address: str = ""
    objects: str = ""
    """Where the large objects are."""
    branches: dict[tuple[str, str], str] = field(default_factory=dict)
    commits: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    token: str = ""
    """What opens it; empty where everybody may read."""
    faults: dict[str, list[Answer]] = field(default_factory=dict)
    """By the last part of a path: answers that are given once, before the right one."""
    log: list[tuple[str, str, str, dict[str, str]]] = field(default_factory=list)
    """Host (`hub` or `objects`), method, path, headers."""

    def publish(self, files: Mapping[str, bytes], repository: str = "acme/tiny", branch: str = "main") -> str:
        """Commit files to a branch; the commit."""
        text = repr((repository, branch, sorted(files.items()), len(self.commits)))
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[repository, commit] = dict(files)
        self.branches[repository, branch] = commit
        return commit

    def asked(self, end: str, host: str = "") -> list[dict[str, str]]:
        """Headers of the requests for what ends so."""
        return [headers for where, _, path, headers in self.log if path.endswith(end) and host in ("", where)]

    def answer(self, host: str, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        headers = {key.lower(): value for key, value in handler.headers.items()}
        self.log.append((host, handler.command, handler.path, headers))
        parts = urlsplit(handler.path)
        fault = self.faults.get(parts.path.rpartition("/")[2], [])
        if fault and handler.command == "GET":
            fault.pop(0)(handler)
        elif host == "objects":
            self._object(handler, parts.path.removeprefix("/"))
        elif self.token and headers.get("authorization") != f"Bearer {self.token}":
            reply(handler, 401, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        elif parts.path.startswith("/api/models/"):
            self._interface(handler, parts.path.removeprefix("/api/models/"), parse_qs(parts.query))
        else:
            self._resolve(handler, unquote(parts.path.removeprefix("/")))

    def _interface(self, handler: BaseHTTPRequestHandler, path: str, query: Mapping[str, list[str]]) -> None:
        owner, name, what, revision = path.split("/", 3)
        repository, revision = f"{owner}/{name}", unquote(revision)
        commit = self.branches.get((repository, revision), revision)
        files = self.commits.get((repository, commit))
        if files is None:
            reply(handler, 404, b'{"error": "Repository not found"}')
            return
        if what == "revision":
            table = {"id": repository, "sha": commit, "siblings": [{"rfilename": path} for path in files]}
            reply(handler, 200, json.dumps(table).encode())
            return
        start = int(query.get("cursor", ["0"])[0])
        rows = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "sub"}, *map(_row, sorted(files.items()))]
        more = {}
        if start + PAGE < len(rows):
            link = f"{self.address}/api/models/{repository}/tree/{commit}?recursive=true&cursor={start + PAGE}"
            more = {"Link": f'<{link}>; rel="next"'}
        reply(handler, 200, json.dumps(rows[start : start + PAGE]).encode(), more)

    def _resolve(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        owner, name, _, commit, file = path.split("/", 4)
        data = self.commits.get((f"{owner}/{name}", commit), {}).get(file)
        if data is None:
            reply(handler, 404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        sha256 = hashlib.sha256(data).hexdigest()
        if file.endswith(LARGE):
            linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data)), "X-Repo-Commit": commit}
            reply(handler, 302, b"", {"Location": f"{self.objects}/{sha256}", **linked})
        else:
            ranged(handler, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commit})

    def _object(self, handler: BaseHTTPRequestHandler, sha256: str) -> None:
        found = {hashlib.sha256(data).hexdigest(): data for files in self.commits.values() for data in files.values()}
        if sha256 not in found:
            reply(handler, 404, b"")
        else:
            ranged(handler, found[sha256], {"ETag": f'"{sha256}"'})


@contextmanager
def open_hub() -> Iterator[Hub]:
    """Serve a hub on two ports."""
    hub = Hub()
    with _serve("hub", hub) as hub.address, _serve("objects", hub) as hub.objects:
        yield hub


def ranged(handler: BaseHTTPRequestHandler, data: bytes, headers: Mapping[str, str] | None = None) -> None:
    """Answer with a body, or with the rest of it."""
    wanted = handler.headers.get("Range", "")
    begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
    span = {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"} if wanted else {}
    reply(handler, 206 if wanted else 200, data[begin:], {**(headers or {}), **span})


def reply(handler: BaseHTTPRequestHandler, code: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    """Answer."""
    handler.send_response(code)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def cut(data: bytes, after: int) -> Answer:
    """Promise a body, and break off in the middle of it."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:after])
        handler.close_connection = True

    return answer


def stalled(data: bytes, after: int, seconds: float) -> Answer:
    """Promise a body, and say nothing more in the middle of it."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:after])
        handler.wfile.flush()
        time.sleep(seconds)
        handler.close_connection = True

    return answer


def instead(body: bytes, code: int = 200, **headers: str) -> Answer:
    """Answer with something else."""
    return lambda handler: reply(handler, code, body, headers)


def _row(item: tuple[str, bytes]) -> dict[str, object]:
    path, data = item
    row: dict[str, object] = {"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": path}
    if path.endswith(LARGE):
        row["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return row


@contextmanager
def _serve(host: str, hub: Hub) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # or a body waits for the acknowledgement of its headers

        def do_GET(self) -> None:
            hub.answer(host, self)

        def do_HEAD(self) -> None:
            hub.answer(host, self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
