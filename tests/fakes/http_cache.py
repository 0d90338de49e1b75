"""A server of Bazel's HTTP cache protocol on this machine, and its faults.

python -m tests.fakes.http_cache FOLDER     serves a folder; its address on the first line
"""

from __future__ import annotations

import base64
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class HttpCacheServer:
    """Files by path, such as `cas/HASH`, below a prefix."""

    folder: Path | None = None
    """Where they are kept; in memory where it is None."""
    files: dict[str, bytes] = field(default_factory=dict)
    login: str = ""
    """`user:password` or a bearer's token that every request must show."""
    read_only: bool = False
    broken: int = 0
    """Requests that are answered with 500 before the others."""
    dead: bool = False
    """Every connection is dropped."""
    slow: float = 0.0
    """Seconds before an answer."""
    redirect: str = ""
    """Where GET requests are sent to."""
    log: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    address: str = ""

    def get(self, path: str) -> bytes | None:
        if self.folder is not None:
            file = self.folder / path
            return file.read_bytes() if file.is_file() else None
        return self.files.get(path)

    def put(self, path: str, data: bytes) -> None:
        if self.folder is None:
            self.files[path] = data
            return
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f"{file.name}.{threading.get_ident()}")
        temporary.write_bytes(data)
        temporary.replace(file)

    def shows_login(self, given: str) -> bool:
        basic = "Basic " + base64.b64encode(self.login.encode()).decode()
        return not self.login or given in (basic, f"Bearer {self.login}")

    @contextmanager
    def running(self) -> Iterator[HttpCacheServer]:
        """Serve until the block ends."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        self.address = f"http://127.0.0.1:{server.server_port}/prefix"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


def _handler(cache: HttpCacheServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.is_faulty():
                return
            if cache.redirect:
                self.answer(307, b"", Location=cache.redirect + self.path)
                return
            data = cache.get(self.path.removeprefix("/prefix/"))
            self.answer(404 if data is None else 200, data or b"")

        do_HEAD = do_GET

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if self.is_faulty():
                return
            if cache.read_only:
                self.answer(403, b"")
                return
            cache.put(self.path.removeprefix("/prefix/"), data)
            self.answer(200, b"")

        def is_faulty(self) -> bool:
            cache.log.append((self.command, self.path))
            cache.headers.append(dict(self.headers))
            if cache.dead:
                self.close_connection = True
                return True
            time.sleep(cache.slow)
            if cache.broken:
                cache.broken -= 1
                self.answer(500, b"")
                return True
            if not cache.shows_login(self.headers.get("Authorization", "")):
                self.answer(401, b"", **{"WWW-Authenticate": 'Basic realm="cache"'})
                return True
            return False

        def answer(self, status: int, data: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


if __name__ == "__main__":
    with HttpCacheServer(Path(sys.argv[1])).running() as _served:
        sys.stdout.write(f"{_served.address}\n")
        sys.stdout.flush()
        threading.Event().wait()
