"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from forge_runtime.backend import Generation

__all__ = ["Metrics"]

BUCKETS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    120,
    300,
)


class Metrics:
    """The counters of one server, in a registry of its own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "forge_requests", "Requests answered", ["path", "status"], registry=registry
        )
        self.steps = Histogram(
            "forge_step_seconds", "Time of each step", ["step"], buckets=BUCKETS, registry=registry
        )
        self.prompt_tokens = Counter("forge_prompt_tokens", "Tokens of prompts", registry=registry)
        self.generated_tokens = Counter(
            "forge_generated_tokens", "Tokens generated", registry=registry
        )
        self.in_flight = Gauge(
            "forge_requests_in_flight", "Inference requests not yet answered", registry=registry
        )
        self.queued = Gauge(
            "forge_queue_depth", "Requests that wait for the model", registry=registry
        )
        self.restarts = Counter(
            "forge_backend_restarts", "Times that a lost backend was loaded again", registry=registry
        )
        self.ready = Gauge(
            "forge_ready", "1 when the model is loaded and requests are taken", registry=registry
        )

    def count_tokens(self, results: Iterable[object]) -> None:
        """Add up the tokens of what `infer` returned; a handler may return something else."""
        for result in results:
            if isinstance(result, Generation):
                self.prompt_tokens.inc(result.prompt_tokens)
                self.generated_tokens.inc(result.generated_tokens)

    def expose(self) -> bytes:
        """Return the text format."""
        return generate_latest(self._registry)
