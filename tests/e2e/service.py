"""A service as a client sees it."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

NEW_TOKENS = 32


@dataclass(frozen=True)
class Service:
    """Something that listens on loopback."""

    port: int
    ready_s: float = 180.0
    """How long it may take to be ready."""

    def wait(self, running: Callable[[], bool]) -> None:
        """Wait until it is ready, as long as it is `running`."""
        end = time.monotonic() + self.ready_s
        while time.monotonic() < end:
            assert running(), "The service ended before it was ready"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError("The service was never ready")

    def infer(self, prompts: Sequence[str]) -> dict[str, Any]:
        """Generate greedily; what was generated for each prompt."""
        gen = {"max_new_tokens": NEW_TOKENS, "do_sample": False}
        body = json.dumps({"prompts": list(prompts), "gen": gen, "details": True}).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/infer", body, headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
