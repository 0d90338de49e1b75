"""What a server is told: the values of config.json and the environment, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from forge_runtime.error import Fault

__all__ = [
    "MAX_TEMPERATURE",
    "MODES",
    "PRECISIONS",
    "PROVIDERS",
    "Config",
    "Identity",
    "Mode",
    "ModelConfig",
    "Params",
    "Precision",
    "Provider",
    "RedisConfig",
    "ServerConfig",
    "check_temperature",
]

MIN_TEMPERATURE: Final = 0.01
MAX_TEMPERATURE: Final = 100.0

Precision = Literal["fp32", "fp16", "bf16", "auto"]
# Beside their names, those of TF2AIF and CECAIServe.
PRECISIONS: Final[Mapping[str, Precision]] = {
    **dict.fromkeys(("fp32", "FP32", "float32"), "fp32"),
    **dict.fromkeys(("fp16", "FP16", "float16"), "fp16"),
    **dict.fromkeys(("bf16", "BF16", "bfloat16"), "bf16"),
    "auto": "auto",
}

Provider = Literal["cpu", "cuda", "tensorrt"]
PROVIDERS: Final[Mapping[str, Provider]] = {"cpu": "cpu", "cuda": "cuda", "tensorrt": "tensorrt"}

Mode = Literal[
    "latency",  # one item at a time
    "throughput",  # `batch_size` items at a time
]
# The short names are those of TF2AIF and CECAIServe, in their case too.
MODES: Final[Mapping[str, Mode]] = {
    **dict.fromkeys(("latency", "lat", "LAT"), "latency"),
    **dict.fromkeys(("throughput", "thr", "THR"), "throughput"),
}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The weights that are served."""

    name: str
    path: Path
    format: str = "safetensors"


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where the server listens, and the limits that protect it."""

    name: str = ""
    """Label of the target, for logs."""
    handler: str | None = None
    """File in `app_dir` with `class Handler(BaseServer)`; None: `BaseServer` itself serves."""
    app_dir: Path = Path("/opt/forge/app")
    host: str = "0.0.0.0"
    port: int = 3000
    mode: Mode = "throughput"
    queue_size: int = 256
    """Requests that may wait for the model; one more gets 429."""
    max_items: int = 1024
    """Prompts, pictures or rows of one request."""
    deadline_s: float = 300.0
    """From the whole body read to the answer; then 504. A request may ask for less."""
    hang_s: float = 30.0
    """For the model to end a run that nobody waits for; then its process is ended."""
    load_timeout_s: float = 1800.0
    """For the model to be loaded and warm, each time."""
    body_limit: int = 8 * 2**20
    body_timeout_s: float = 30.0
    """For a client to send its body; then 408."""
    header_timeout_s: float = 10.0
    """For a client to send a request's headers."""
    write_timeout_s: float = 60.0
    """For a client to take what it is sent."""
    keep_alive_s: float = 60.0
    """For the next request on a connection."""
    max_connections: int = 4096
    drain_s: float = 30.0
    """For what is in flight when the server is told to stop."""
    logs: bool = False
    """Whether `/api/logs` is there; only with a token."""
    shutdown: bool = False
    """Whether `/api/shutdown` is there; only with a token."""
    metrics_list_size: int = 1000
    """Requests that `/api/metrics` remembers."""
    admin_token: str = field(default="", repr=False)
    """What `/api/logs` and `/api/shutdown` ask for; from the environment alone."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a service calls itself in metrics, by the predecessors' names."""

    app_name: str = ""
    network_name: str = ""
    network_type: str = ""
    focus: str = ""
    device: str = ""
    node_name: str = ""


@dataclass(frozen=True, slots=True)
class RedisConfig:
    """Where time series go."""

    send: bool = False
    host: str = "127.0.0.1"
    port: int = 6379
    retention_s: int = 7 * 86400
    buffer: int = 10_000
    """Points that wait; the oldest is dropped for one more."""
    password: str = field(default="", repr=False)
    """From the environment alone."""


@dataclass(frozen=True, slots=True)
class Params:
    """How the model is run, and what a request gets that does not say otherwise."""

    batch_size: int = 1
    """Items that are run together, of one request or several."""
    batch_wait_ms: float = 5.0
    """For a batch to fill up, from its oldest item on; only in throughput mode, and not where `batch_size` is 1."""
    max_length: int = 1024
    """All tokens of the context, prompt included; the model's own positions cap it."""
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    do_sample: bool = False
    num_threads: int = 0
    """Of the CPU; 0 leaves it to the backend."""
    precision: Precision = "auto"
    """Of weights and arithmetic; `auto` is what the checkpoint says."""
    provider: Provider = "cpu"
    """What runs a graph; parts that `tensorrt` cannot run go to `cuda`, and those to `cpu`."""
    device_index: int = 0
    """Which of the accelerators that the container sees."""
    gpu_memory_share: float = 0.0
    """Of the accelerator's memory, for weights and cache; 0 leaves it to the backend."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the server is told."""

    platform: str
    backend: str
    model: ModelConfig
    server: ServerConfig = ServerConfig()
    params: Params = Params()
    identity: Identity = Identity()
    redis: RedisConfig = RedisConfig()
    debug: bool = False
    """Whether more is logged."""


def check_temperature(value: float, place: str, faults: list[Fault]) -> None:
    """Refuse what makes the logits overflow: not greedy, but all but zero."""
    if 0 < value < MIN_TEMPERATURE:
        faults.append(Fault(place, f"Expected 0 (greedy) or at least {MIN_TEMPERATURE:g}, got `{value:g}`"))
