"""The same model behind a server as the predecessors' are: answers per second of the one and the other."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.serving_client import Connection, infer, post
from benchmarks.serving_figure import Figure
from benchmarks.serving_load import Ask, Client, closed_loop, percentile, run
from benchmarks.serving_process import MODEL, ROOT, serving, started, wait_for, wait_ready

__all__ = ["fake", "gpt2"]

CLIENTS = (1, 8, 32)
BATCH = 8
NEW_TOKENS = 32
PROMPT = "The build reads its inputs by digest"
TARGET = ROOT / "targets" / "tiny_gpt2"
Make = Callable[[int, int], bytes]
"""A request, of the numbers of its client and of itself."""


def fake(seconds: float) -> Sequence[Figure]:
    """Compare in front of the backend that takes 20 ms, whatever the batch."""
    environ = {"FAKE_KIND": "batchable"}

    def make(client: int, number: int) -> bytes:
        return infer(f"text {client} {number}")

    with _predecessor("llama_cpp", Path("/nonexistent"), environ) as port:
        old = _rates(port, make, seconds)
    with serving(params={"batch_size": 1}, environ=environ) as server:
        alone = _rates(server.port, make, seconds, (1,))
    with serving(params={"batch_size": BATCH, "batch_wait_ms": 10}, environ=environ) as server:
        new = _rates(server.port, make, seconds)
    return _compared(old, alone, new)


def gpt2(seconds: float) -> Sequence[Figure]:
    """Compare in front of the tiny GPT-2, in transformers."""

    def make(client: int, number: int) -> bytes:
        return post("/api/infer", {"prompts": [PROMPT], "gen": {"max_new_tokens": NEW_TOKENS}})

    with tempfile.TemporaryDirectory() as folder:
        argv = [str(TARGET / "make_model.py"), "--corpus", str(TARGET / "corpus.txt"), "--seed", "0", "--out", folder]
        subprocess.run([sys.executable, *argv], check=True, timeout=120)
        with _predecessor("transformers", Path(folder), {}) as port:
            old = _rates(port, make, seconds)
        backend = 'IsolatedText("forge_runtime.backends.transformers")'
        with serving(params={"batch_size": 1}, backend=backend, path=Path(folder)) as server:
            alone = _rates(server.port, make, seconds, (1,))
        params = {"batch_size": BATCH, "batch_wait_ms": 10}
        with serving(params=params, backend=backend, path=Path(folder)) as server:
            new = _rates(server.port, make, seconds)
    return _compared(old, alone, new)


def _rates(
    port: int, make: Make, seconds: float, clients: Sequence[int] = CLIENTS
) -> Mapping[int, tuple[float, Sequence[float]]]:
    def client(number: int) -> Ask:
        return Client(Connection(port), lambda count: make(number, count))

    return {count: run(closed_loop(count, seconds, client)) for count in clients}


def _compared(
    old: Mapping[int, tuple[float, Sequence[float]]],
    alone: Mapping[int, tuple[float, Sequence[float]]],
    new: Mapping[int, tuple[float, Sequence[float]]],
) -> Sequence[Figure]:
    figures = []
    rows = [("one at a time", count, alone[count]) for count in alone]
    rows += [(f"batches of {BATCH}", count, new[count]) for count in new]
    for mode, count, (rate, seconds) in rows:
        before, was = old[count]
        where = f"{count} clients, {mode}"
        figures += [
            Figure(f"{where}: predecessor", before, "1/s"),
            Figure(f"{where}: forge", rate, "1/s"),
            Figure(f"{where}: ratio", rate / before, "times"),
            Figure(f"{where}: p99, predecessor", percentile(was, 99) * 1000, "ms"),
            Figure(f"{where}: p99, forge", percentile(seconds, 99) * 1000, "ms"),
        ]
    return figures


@contextlib.contextmanager
def _predecessor(backend: str, path: Path, environ: Mapping[str, str]) -> Iterator[int]:
    """Run it; its port. Flask cannot be given port 0 and asked which it was."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = int(sock.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="forge-load-") as text:
        config = {
            "schema": 1,
            "platform": "load",
            "backend": backend,
            "model": {"name": MODEL, "path": str(path)},
            "server": {"host": "127.0.0.1", "port": port},
            "params": {"batch_size": BATCH},
        }
        (Path(text) / "config.json").write_text(json.dumps(config))
        variables = {"FORGE_CONFIG": str(Path(text) / "config.json"), **environ}
        with started(["-m", "benchmarks.predecessor"], Path(text) / "log", variables) as process:
            wait_ready(process, Path(text) / "log")
            wait_for(lambda: _listens(port))
            yield port


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
