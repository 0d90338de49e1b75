"""Time series of requests, for a Redis with the module RedisTimeSeries.

`add` turns a record into points and leaves them in a bounded buffer; a thread of its own writes them. What Redis
does, or whether there is one, reaches no request: points wait, and where they are too many the oldest go.

Each metric of each server has a key, named as TF2AIF names them: `AIF:app:network:type:device:focus:start:metric`,
where `start` is when the server started in milliseconds since the epoch. The same parts, and more, are labels.

    processing_latency        ms        all steps but `queue`, per item; the predecessors did not count the wait either
    execution_latency         ms        `infer`, per item
    data_preparation_latency  ms        processing_latency less execution_latency
    throughput                items/s   items by the time of all steps but `queue`
    dataset_size, batch_size  items     of the request, and of the batch that it ran in
    queue_latency             ms        `queue`, of the request
    prompt_tokens, generated_tokens, tokens_per_second, first_token_latency      where the model has tokens

Only requests that were answered with 2xx count. A point stands at the time when its request came; of two requests
in one millisecond the one that is written last stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from forge_runtime.record import Record
from forge_runtime.redis_connection import Connection, RedisConnection, check_library
from forge_runtime.timeseries_writer import SYSTEM, Buffer, Point, Timing, Writer

__all__ = ["SYSTEM", "TimeSeries", "TimeSeriesConfig", "Timing"]

UNITS: Final[Mapping[str, str]] = {
    "processing_latency": "ms",
    "data_preparation_latency": "ms",
    "execution_latency": "ms",
    "throughput": "items/s",
    "dataset_size": "items",
    "batch_size": "items",
    "queue_latency": "ms",
    "prompt_tokens": "tokens",
    "generated_tokens": "tokens",
    "tokens_per_second": "tokens/s",
    "first_token_latency": "ms",
}
WEEK_MS: Final = 7 * 24 * 60 * 60 * 1000
NO_PART: Final = str.maketrans(":", "-")
"""A colon in a part would shift those behind it."""
NO_LABEL: Final = str.maketrans("(),", "---")
"""RedisTimeSeries refuses a point for one of these in a label."""


@dataclass(frozen=True, slots=True)
class TimeSeriesConfig:
    """Which Redis, and whose points; any of the names may be empty."""

    host: str
    port: int = 6379
    password: str | None = field(default=None, repr=False)
    retention_ms: int = WEEK_MS
    """How long Redis keeps a point; 0 is for ever."""
    buffer: int = 10_000
    """Points that may wait."""
    timeout_s: float = 1.0
    """To connect, and for each answer."""
    app_name: str = ""
    network_name: str = ""
    network_type: str = ""
    device: str = ""
    focus: str = ""
    node_name: str = ""
    precision: str = ""


class TimeSeries:
    """A sink of records that writes them to Redis; StartError where the library `redis` is missing."""

    def __init__(
        self, config: TimeSeriesConfig, *, connect: Callable[[], Connection] | None = None, timing: Timing = SYSTEM
    ) -> None:
        if connect is None:
            check_library()
            connect = partial(RedisConnection, config.host, config.port, config.password, config.timeout_s)
        self._buffer = Buffer(config.buffer)
        commands = _Commands(config, int(timing.now() * 1000))
        where = f"{config.host}:{config.port}"
        self._writer = Writer(self._buffer, commands.encode, connect, timing=timing, where=where)

    def start(self) -> None:
        """Begin to write; what was added before is not lost."""
        self._writer.start()

    def add(self, record: Record) -> None:
        """Keep the points of a record until they are written."""
        self._buffer.add(list(_points(record)))

    def close(self, timeout_s: float) -> None:
        """Write what is left, as far as that comes within `timeout_s`, and end the thread."""
        self._writer.close(timeout_s)

    @property
    def written(self) -> int:
        """Points that Redis took."""
        return self._buffer.written

    @property
    def dropped(self) -> int:
        """Points that went to make room for newer ones."""
        return self._buffer.dropped

    @property
    def refused(self) -> int:
        """Points that Redis would never take, as where their key holds something else."""
        return self._buffer.refused

    @property
    def pending(self) -> int:
        """Points that wait, or are being written."""
        return self._buffer.pending

    @property
    def failed(self) -> int:
        """Tries to connect or to write that failed; their points are kept."""
        return self._writer.failed

    @property
    def connected(self) -> bool:
        """Whether the last try did not fail."""
        return self._writer.connected


def _points(record: Record) -> Iterator[Point]:
    if not (200 <= record.status < 300 and record.items > 0 and "infer" in record.steps):
        return
    at = round(record.time * 1000)
    for metric, value in _measure(record).items():
        if math.isfinite(value):
            yield Point(metric, at, value)


def _measure(record: Record) -> dict[str, float]:
    infer = record.steps["infer"]
    full = sum(seconds for step, seconds in record.steps.items() if step != "queue")
    execution = infer / record.items * 1000
    processing = full / record.items * 1000
    found: dict[str, float] = {
        "processing_latency": processing,
        "data_preparation_latency": processing - execution,
        "execution_latency": execution,
        "dataset_size": record.items,
    }
    if full > 0:
        found["throughput"] = record.items / full
    if record.batch_size > 0:
        found["batch_size"] = record.batch_size
    if "queue" in record.steps:
        found["queue_latency"] = record.steps["queue"] * 1000
    if record.prompt_tokens is not None:
        found["prompt_tokens"] = record.prompt_tokens
    if record.generated_tokens is not None:
        found["generated_tokens"] = record.generated_tokens
        if infer > 0:
            found["tokens_per_second"] = record.generated_tokens / infer
    if record.first_token_seconds is not None:
        found["first_token_latency"] = record.first_token_seconds * 1000
    return found


class _Commands:
    """`TS.ADD` for each metric, encoded but for time and value.

    Every command carries what makes the series, so that one which Redis lost comes back as it was. redis-py takes
    11 us to encode one, this takes 2; while it is done no request is served.
    """

    def __init__(self, config: TimeSeriesConfig, start: int) -> None:
        names = (config.app_name, config.network_name, config.network_type, config.device, config.focus)
        instance = ":".join([*(name.translate(NO_PART) for name in names), str(start)])
        labels = dict(zip(("app", "network", "type", "device", "focus"), names, strict=True))
        labels |= {"node": config.node_name, "precision": config.precision, "instance": instance}
        options = ["RETENTION", str(config.retention_ms), "DUPLICATE_POLICY", "LAST", "ON_DUPLICATE", "LAST", "LABELS"]
        self._commands: dict[str, tuple[bytes, bytes]] = {}
        for metric, unit in UNITS.items():
            tail = [*options, *_flatten({**labels, "metric": metric, "unit": unit})]
            head = b"*%d\r\n" % (len(tail) + 4) + _bulk("TS.ADD") + _bulk(f"AIF:{instance}:{metric}")
            self._commands[metric] = head, b"".join(map(_bulk, tail))

    def encode(self, point: Point) -> bytes:
        """Return what is sent for a point."""
        head, tail = self._commands[point.metric]
        return head + _bulk(str(point.time_ms)) + _bulk(repr(point.value)) + tail


def _flatten(labels: Mapping[str, str]) -> Iterator[str]:
    for name, value in labels.items():
        if value:  # an empty one is refused, and the point with it
            yield name
            yield value.translate(NO_LABEL)


def _bulk(text: str) -> bytes:
    # A variable of the environment may hold bytes that are no UTF-8.
    data = text.encode(errors="replace")
    return b"$%d\r\n%b\r\n" % (len(data), data)
