"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from forge_runtime.record import Record

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
ITEM_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
ABANDONED = (499, 504)


class Metrics:
    """The counters of one server, in a registry of its own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        ProcessCollector(registry=registry)
        self.requests = Counter("forge_requests", "Requests answered", ["path", "status"], registry=registry)
        self.steps = Histogram("forge_step_seconds", "Time of each step", ["step"], buckets=BUCKETS, registry=registry)
        self.prompt_tokens = Counter("forge_prompt_tokens", "Tokens of prompts", registry=registry)
        self.generated_tokens = Counter("forge_generated_tokens", "Tokens generated", registry=registry)
        self.in_flight = Gauge("forge_requests_in_flight", "Inference requests not yet answered", registry=registry)
        self.queued = Gauge("forge_queue_depth", "Requests that wait for the model", registry=registry)
        self.restarts = Counter(
            "forge_backend_restarts", "Times that a lost backend was loaded again", registry=registry
        )
        self.batches = Histogram(
            "forge_batch_items", "Items that were run together", buckets=ITEM_BUCKETS, registry=registry
        )
        self.seconds = Histogram(
            "forge_request_seconds", "Time of a request that was answered", ["path"], buckets=BUCKETS, registry=registry
        )
        self.first_token = Histogram(
            "forge_first_token_seconds", "Time to the first text of a stream", buckets=BUCKETS, registry=registry
        )
        self.cancelled = Counter(
            "forge_requests_cancelled", "Requests whose client left or whose time was over", registry=registry
        )
        self.connections_refused = Counter(
            "forge_connections_refused",
            "Connections and requests refused before any endpoint",
            ["status"],
            registry=registry,
        )
        self.ready = Gauge("forge_ready", "1 when the model is loaded and requests are taken", registry=registry)

    def add(self, record: Record) -> None:
        """Count a finished request."""
        self.observe_steps(record.steps)
        if record.status < 400:
            self.seconds.labels(record.path).observe(record.seconds)
        if record.status in ABANDONED:
            self.cancelled.inc()
        if record.first_token_seconds is not None:
            self.first_token.observe(record.first_token_seconds)

    def observe_steps(self, seconds: Mapping[str, float]) -> None:
        """Count steps that were done, by their seconds."""
        for step, taken in seconds.items():
            self.steps.labels(step).observe(taken)

    def watch(self, name: str, text: str, read: Callable[[], Mapping[str, float] | None], label: str) -> None:
        """Show values that are kept elsewhere, by a label; none where `read` has none."""
        self._registry.register(_Watched(name, text, read, label))

    def expose(self) -> bytes:
        """Return the text format."""
        return generate_latest(self._registry)


class _Watched(Collector):
    """Reads its values when it is asked for them."""

    def __init__(self, name: str, text: str, read: Callable[[], Mapping[str, float] | None], label: str) -> None:
        self._name = name
        self._text = text
        self._read = read
        self._label = label

    def collect(self) -> Iterable[Metric]:
        """Return one gauge."""
        gauge = GaugeMetricFamily(self._name, self._text, labels=[self._label])
        for name, value in (self._read() or {}).items():
            gauge.add_metric([name], value)
        return [gauge]
