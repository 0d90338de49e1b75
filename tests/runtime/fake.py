"""A backend without a model, a server around it, and a client for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from forge_runtime import BaseServer, Generation, LoadError, RequestError, Sampling, log
from forge_runtime.backend import Backend, Outcome, Progress, Prompt
from forge_runtime.config import Config, ModelConfig, Params, ServerConfig
from forge_runtime.lifecycle import AnyLifecycle
from forge_runtime.power.discovery import Found
from forge_runtime.service import Service


class FakeBackend:
    """Answers a prompt with itself in capitals; `!raise` raises, `!long` does not fit.

    `!abort` ends the process, as a library's failed assertion does.
    `!wait` holds the model's thread until `gate` is set or nobody waits any more.
    """

    def __init__(self, *, load: Callable[[], None] = lambda: None) -> None:
        self.batches: list[tuple[str, ...]] = []
        self.samplings: list[Sampling] = []
        self.gate = threading.Event()
        self.running = threading.Event()
        self.cancelled = threading.Event()
        self._load = load

    def load(self, model: ModelConfig, params: Params) -> None:
        if model.name == "!abort":
            os.abort()
        if model.name == "!broken":
            raise LoadError("no weights")
        self._load()

    def describe(self) -> Mapping[str, str | int]:
        return {"backend": "fake"}

    def generate(self, prompts: Sequence[Prompt], progress: Progress) -> Sequence[Outcome]:
        self.batches.append(tuple(prompt.text for prompt in prompts))
        self.samplings += [prompt.sampling for prompt in prompts]
        return [self._continue(index, prompt, progress) for index, prompt in enumerate(prompts)]

    def _continue(self, index: int, prompt: Prompt, progress: Progress) -> Outcome:
        text = prompt.text
        if text.startswith("!raise"):
            raise {"!raise": ValueError, "!raise stop": StopIteration, "!raise exit": SystemExit}[text]("on purpose")
        if text == "!orphan":
            subprocess.Popen(["sleep", "30"])
            os.abort()
        if text in ("!deep", "!long"):
            sys.stdout.write("[" * 200_000 + "\n" if text == "!deep" else "x" * 10**7)
            sys.stdout.flush()
        if text == "!cuda":
            raise RuntimeError("CUDA error: device-side assert triggered")
        if text == "!long":
            return RequestError("Too long", param="prompts", code="context_length_exceeded")
        if text == "!hang":
            self.running.set()
            time.sleep(3600)
        if text == "!abort":
            os.abort()
        self._write(index, prompt, progress)
        return Generation(text.upper(), len(text), 2, (1, 2), "stop")

    def _write(self, index: int, prompt: Prompt, progress: Progress) -> None:
        for piece in re.findall(r"\S*\s*", prompt.text):
            if piece == "!wait":
                self._wait(lambda: progress.cancelled(index))
            if piece and prompt.streams:
                progress.emit(index, piece.upper())

    def _wait(self, cancelled: Callable[[], bool]) -> None:
        self.running.set()
        while not self.gate.wait(0.005):
            if cancelled():
                self.cancelled.set()
                return


def create() -> FakeBackend:
    """Make the backend, where this module is one: in a process of its own."""
    return FakeBackend()


@dataclass
class Readers:
    """Who waits for the prompts of a batch."""

    gone: set[int] = field(default_factory=set)
    heard: list[tuple[int, str]] = field(default_factory=list)

    def cancelled(self, index: int) -> bool:
        return index in self.gone

    def emit(self, index: int, text: str) -> None:
        self.heard.append((index, text))


@dataclass
class Reply:
    """A response, read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> object:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, object]:
        """The error body; fails where it has not the four fields."""
        value = json.loads(self.body)
        assert set(value) == {"error"}
        error = value["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return dict(error)


@dataclass
class Client:
    """Speaks HTTP to one server, a connection for each request."""

    port: int
    service: Service | None = None
    thread: threading.Thread | None = None
    status: list[int] = field(default_factory=list)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Reply:
        return self.send("GET", path)

    def post(self, body: bytes, content_type: str = "application/json") -> Reply:
        headers = {"content-type": content_type} if content_type else {}
        return self.send("POST", "/api/infer", body, headers)

    def infer(self, *prompts: str, **rest: object) -> Reply:
        return self.post(json.dumps({"prompts": list(prompts), **rest}).encode())

    def wait_ready(self) -> None:
        wait_for(lambda: self.get("/readyz").status == 200)

    def stop(self) -> None:
        """Tell the server to stop."""
        assert self.service is not None
        self.service.stop()

    def join(self, seconds: float = 60) -> None:
        """Wait for the server's own end."""
        assert self.thread is not None
        self.thread.join(seconds)

    def wait_lost(self) -> None:
        wait_for(lambda: self.get("/readyz").status == 503 or self.metric("forge_backend_restarts_total") > 0)

    def metric(self, name: str) -> float:
        lines = self.get("/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def wait_for(condition: Callable[[], bool], timeout: float = 10) -> None:
    """Wait until `condition` holds, or fail."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def make_config(
    *,
    server: Mapping[str, float] | None = None,
    params: Params | None = None,
    backend: str = "fake",
) -> Config:
    """Return a configuration for 127.0.0.1 and any free port."""
    limits = dict(server or {})
    return Config(
        platform="cpu_llm_trf",
        backend=backend,
        model=ModelConfig("tiny", Path("/models/weights")),
        server=ServerConfig(host="127.0.0.1", port=0, **limits),  # type: ignore[arg-type]
        params=params or Params(batch_size=2, max_length=128),
    )


@contextlib.contextmanager
def serving(
    backend: Backend,
    config: Config | None = None,
    *,
    handler: type[AnyLifecycle] = BaseServer,
    ready: bool = True,
    tail: log.Tail | None = None,
    sensors: Callable[[], Found] = Found,
) -> Iterator[Client]:
    """Run a server in a thread, and stop it in the end."""
    service = Service(config or make_config(), handler=handler, backend=lambda: backend, tail=tail, sensors=sensors)
    _, port = service.bind()
    thread = threading.Thread(target=lambda: client.status.append(service.run()))
    client = Client(port, service, thread)
    thread.start()
    try:
        if ready:
            client.wait_ready()
        yield client
    finally:
        service.stop()
        thread.join(20)
        service.end()
        assert not thread.is_alive()
