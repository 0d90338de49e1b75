"""A server as the predecessors' are: Flask, one queue, one thread that works, one Condition, a dict of results.

It has the same handler, backend and weights as forge, in its own process as theirs have. What theirs do beside an
answer is left out: metrics, power, Redis. `python -m benchmarks.predecessor` serves what FORGE_CONFIG says; with
FAKE_KIND in the environment, the fake backend.
"""

from __future__ import annotations

import importlib
import os
import queue
import sys
import threading
import uuid
from typing import Any

from forge_runtime import config_file, log
from forge_runtime.backend import Backend
from forge_runtime.server import BaseServer

__all__ = ["main"]

waiting: queue.Queue[tuple[str, bytes, str]] = queue.Queue()
results: dict[str, bytes] = {}
condition = threading.Condition()


def main() -> None:
    """Load the model, then serve. Theirs open the port first, and hang where the model cannot be loaded."""
    # A dependency of this comparison alone.
    flask = importlib.import_module("flask")
    log.configure()
    config = config_file.load(os.environ)
    module = "benchmarks.fake_backend" if "FAKE_KIND" in os.environ else f"forge_runtime.backends.{config.backend}"
    backend: Backend = importlib.import_module(module).create()
    server = BaseServer(config, backend)
    server.load()
    server.warm_up()
    threading.Thread(target=_work, args=(server,), daemon=True).start()
    app = flask.Flask(__name__)

    def infer() -> Any:
        return flask.Response(
            _answer(flask.request.get_data(), flask.request.content_type), mimetype="application/json"
        )

    app.add_url_rule("/api/infer", view_func=infer, methods=["POST"])
    # What whoever starts a server here waits for.
    sys.stderr.write(f'{{"message": "Listening", "port": {config.server.port}}}\n{{"message": "Ready"}}\n')
    app.run(host=config.server.host, port=config.server.port)


def _answer(body: bytes, content_type: str) -> bytes:
    """Queue a request, and wait until the worker has put its result into the dict."""
    request_id = str(uuid.uuid4())
    waiting.put((request_id, body, content_type))
    with condition:
        while request_id not in results:
            condition.wait()
    return results.pop(request_id)


def _work(server: BaseServer) -> None:
    """Take one request after the other through all steps."""
    while True:
        request_id, body, content_type = waiting.get()
        request = server.decode(body, content_type)
        outcome = server.infer(server.preprocess(request))
        answer = server.encode(server.postprocess(request, outcome))
        with condition:
            results[request_id] = answer
            condition.notify_all()


if __name__ == "__main__":
    main()
