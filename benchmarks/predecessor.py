"""A server as the predecessors' are: Flask, one queue, one thread that works, one Condition, a dict of results.

The same handler, backend and weights as in forge, in this process as theirs are. What theirs does beside an answer is
left out: metrics, power, logs, Redis. `python -m benchmarks.predecessor` serves what FORGE_CONFIG says, with
FAKE_BACKEND=1 the fake one.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import uuid
from typing import Any

from flask import Flask, Response, request

from benchmarks import fake_backend
from forge_runtime import config_file, log
from forge_runtime.backend import Backend
from forge_runtime.lifecycle import AnyLifecycle
from forge_runtime.server import BaseServer

__all__ = ["main"]

app = Flask(__name__)
requests: queue.Queue[tuple[str, bytes, str]] = queue.Queue()
results: dict[str, bytes] = {}
condition = threading.Condition()


@app.route("/api/infer", methods=["POST"])
def infer() -> Response:
    """Queue the body, and wait until the worker has put its result into the dict."""
    request_id = str(uuid.uuid4())
    requests.put((request_id, request.get_data(), request.content_type or ""))
    with condition:
        while request_id not in results:
            condition.wait()
    return Response(results.pop(request_id), mimetype="application/json")


def work(server: AnyLifecycle) -> None:
    """Take one request after the other through all steps."""
    while True:
        request_id, body, content_type = requests.get()
        decoded: Any = server.decode(body, content_type)
        outcome = server.infer(server.preprocess(decoded))
        result = server.encode(server.postprocess(decoded, outcome))
        with condition:
            results[request_id] = result
            condition.notify_all()


def main() -> None:
    """Load the model, then serve: theirs opens the port first."""
    config = config_file.load(os.environ)
    log.configure()
    server = BaseServer(config, _backend(config.backend))
    server.load()
    server.warm_up()
    threading.Thread(target=work, args=(server,), daemon=True).start()
    # What the benchmark waits for.
    sys.stderr.write(f'{{"message": "Listening", "port": {config.server.port}}}\n{{"message": "Ready"}}\n')
    app.run(host=config.server.host, port=config.server.port)


def _backend(name: str) -> Backend:
    if os.environ.get("FAKE_BACKEND"):
        return fake_backend.create()
    from forge_runtime.backends import transformers

    assert name == "transformers"
    backend: Backend = transformers.create()
    return backend


if __name__ == "__main__":
    main()

