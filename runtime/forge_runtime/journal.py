"""The last requests, as the predecessors' `/api/metrics` told of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Literal

from forge_runtime.config import Config, Identity
from forge_runtime.record import Record

__all__ = ["Journal", "Shape", "item_latencies"]

Shape = Literal[
    "cecaiserve",  # seconds of a request; what is fixed comes first
    "tf2aif",  # milliseconds of an item; what is fixed comes last
]
Entry = Mapping[str, object]

PREPARING = ("decode", "preprocess")
FINISHING = ("postprocess", "encode")
SECRETS = ("admin_token", "password")


class Journal:
    """A bounded list of what was answered."""

    def __init__(self, size: int) -> None:
        self._records: deque[Record] = deque(maxlen=size)

    def add(self, record: Record) -> None:
        """Remember a request that was answered."""
        if record.status < 400 and record.items:
            self._records.append(record)

    def last(self, count: int | None) -> Sequence[Record]:
        """Return the last of them, oldest first; all for None."""
        records = list(self._records)
        return records if count is None else records[-count:]

    def document(
        self, config: Config, once: Mapping[str, float], count: int | None, shape: Shape, started: float
    ) -> Sequence[Entry]:
        """Return them and what is fixed, in one of the two shapes (SEEDS 2.4)."""
        if shape == "cecaiserve":
            entries = [_request_entry(record) for record in self.last(count)]
            return [_characteristics(config), _settings(config), dict(once), *entries]
        entries = [_item_entry(record, config.identity, config, started) for record in self.last(count)]
        return [*entries, {**once, "NUM_THREADS": config.params.num_threads}]


def item_latencies(record: Record) -> tuple[float, float]:
    """Return milliseconds of execution and of all steps for each item; waiting in the queue is in neither."""
    full = sum(seconds for step, seconds in record.steps.items() if step != "queue")
    return record.steps.get("infer", 0.0) / record.items * 1000, full / record.items * 1000


def _request_entry(record: Record) -> Entry:
    full = sum(seconds for step, seconds in record.steps.items() if step != "queue")
    entry: dict[str, object] = {
        "total_latency": round(full, 6),
        "preprocessing_latency": _sum(record, PREPARING),
        "inference_latency": record.steps.get("infer", 0.0),
        "postprocessing_latency": _sum(record, FINISHING),
        "queue_latency": record.steps.get("queue", 0.0),
        "throughput": _rate(record.items, full),
        "dataset_size": record.items,
        "batch_size": record.batch_size,
        "timestamp": datetime.fromtimestamp(record.time, timezone.utc).isoformat(timespec="milliseconds"),
        "request_id": record.request_id,
    }
    if record.generated_tokens is not None:
        entry["prompt_tokens"] = record.prompt_tokens
        entry["generated_tokens"] = record.generated_tokens
        entry["tokens_per_second"] = _rate(record.generated_tokens, record.steps.get("infer", 0.0))
    return entry


def _item_entry(record: Record, identity: Identity, config: Config, started: float) -> Entry:
    execution, processing = item_latencies(record)
    parts = (identity.app_name, identity.network_name, identity.network_type, identity.device, identity.focus)
    uid = ":".join(part.replace(":", "-") for part in parts)
    return {
        "app_UID": uid,
        # By the epoch, not by a clock that begins anew with each boot.
        "instance_UID": f"{uid}:{int(started * 1000)}",
        "app_name": identity.app_name,
        "network_name": identity.network_name,
        "network_type": identity.network_type,
        "ai_device": identity.device,
        "focus": identity.focus,
        "node_name": identity.node_name,
        "server_mode": config.server.mode,
        "processing_latency": round(processing, 3),
        "data_preparation_latency": round(processing - execution, 3),
        "execution_latency": round(execution, 3),
        "throughput": _rate(record.items, processing * record.items / 1000),
        "dataset_size": record.items,
        "batch_size": record.batch_size,
        "timestamp": int(record.time * 1000),
    }


def _characteristics(config: Config) -> Entry:
    return {
        "platform": config.platform,
        "backend": config.backend,
        "model": config.model.name,
        "precision": config.params.precision,
        **asdict(config.identity),
    }


def _settings(config: Config) -> Entry:
    server = {name: value for name, value in asdict(config.server).items() if name not in SECRETS}
    return {**server, **asdict(config.params), "app_dir": str(config.server.app_dir)}


def _sum(record: Record, steps: Sequence[str]) -> float:
    return round(sum(record.steps.get(step, 0.0) for step in steps), 6)


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 3) if seconds > 0 else None
