"""The configuration of one image, from config.json and the environment.

The file is baked into the image by `compose`; a variable of the environment, where it
is set, stands before the file. Nothing is guessed: an unknown key or a value of the
wrong type ends the start, with all faults named at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from forge_runtime.error import ConfigError, Fault
from forge_runtime.table import Table, parse_json

__all__ = [
    "DEFAULT_PATH",
    "Config",
    "Mode",
    "ModelConfig",
    "Params",
    "Precision",
    "Provider",
    "ServerConfig",
    "check_temperature",
    "load",
    "parse",
]

DEFAULT_PATH: Final = Path("/etc/forge/config.json")
SCHEMA: Final = 1
MAX_TOKENS: Final = 2**24
MIN_TEMPERATURE: Final = 0.01
MAX_TEMPERATURE: Final = 100.0

Precision = Literal["fp32", "fp16", "bf16", "auto"]
PRECISIONS: Final[Mapping[str, Precision]] = {
    "fp32": "fp32",
    "fp16": "fp16",
    "bf16": "bf16",
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
    queue_size: int = 256
    """Requests that may wait for the model; one more gets 429."""
    deadline_s: float = 300.0
    """From the whole body read to the answer; then 504."""
    body_limit: int = 8 * 2**20
    body_timeout_s: float = 30.0
    """For a client to send its body; then 408."""
    drain_s: float = 30.0
    """For what is in flight when the server is told to stop."""
    mode: Mode = "throughput"


@dataclass(frozen=True, slots=True)
class Params:
    """How the model is run, and what a request gets that does not say otherwise."""

    batch_size: int = 1
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


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the server is told."""

    platform: str
    backend: str
    model: ModelConfig
    server: ServerConfig = ServerConfig()
    params: Params = Params()


def load(environ: Mapping[str, str]) -> Config:
    """Read the file that `FORGE_CONFIG` names, under the rest of the environment."""
    path = Path(environ.get("FORGE_CONFIG") or DEFAULT_PATH)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "Not UTF-8"
        raise ConfigError(str(path), [Fault("the file", f"Cannot be read: {reason}")]) from None
    return parse(text, environ, path=str(path))


def parse(text: str, environ: Mapping[str, str], *, path: str = "config.json") -> Config:
    """Turn the text of config.json into a `Config`."""
    try:
        value = parse_json(text)
    except ValueError as error:
        raise ConfigError(path, [Fault("the file", f"Not JSON: {error}")]) from None
    faults: list[Fault] = []
    root = Table(value, faults=faults, environ=environ)
    config = _config(root)
    if faults:
        raise ConfigError(path, faults)
    return config


def check_temperature(value: float, place: str, faults: list[Fault]) -> None:
    """Refuse what makes the logits overflow: not greedy, but all but zero."""
    if 0 < value < MIN_TEMPERATURE:
        faults.append(
            Fault(place, f"Expected 0 (greedy) or at least {MIN_TEMPERATURE:g}, got `{value:g}`")
        )


def _config(root: Table) -> Config:
    root.require("schema", "platform", "backend", "model")
    schema = root.integer("schema", SCHEMA, 0, 2**31)
    if schema != SCHEMA:
        root.faults.append(
            Fault("schema", f"Expected {SCHEMA}, got `{schema}`; the runtime is of another release")
        )
    config = Config(
        platform=root.text("platform", ""),
        backend=root.text("backend", ""),
        model=_model(root.table("model")),
        server=_server(root.table("server")),
        params=_params(root.table("params")),
    )
    root.close()
    return config


def _model(table: Table) -> ModelConfig:
    table.require("name", "path")
    model = ModelConfig(
        name=table.text("name", ""),
        path=Path(table.text("path", "")),
        format=table.text("format", "safetensors"),
    )
    table.close()
    return model


def _server(table: Table) -> ServerConfig:
    base = ServerConfig()
    server = ServerConfig(
        name=table.text("name", base.name),
        handler=table.text("handler", base.handler),
        app_dir=Path(table.text("app_dir", str(base.app_dir))),
        mode=table.choice("mode", base.mode, MODES, env="SERVER_MODE"),
        host=table.text("host", base.host, env="SERVER_IP"),
        port=table.integer("port", base.port, 0, 65535, env="SERVER_PORT"),
        queue_size=table.integer("queue_size", base.queue_size, 1, 2**20),
        deadline_s=table.number("deadline_s", base.deadline_s, 0.001, 86400),
        body_limit=table.integer("body_limit", base.body_limit, 1, 2**31),
        body_timeout_s=table.number("body_timeout_s", base.body_timeout_s, 0.001, 86400),
        drain_s=table.number("drain_s", base.drain_s, 0, 86400),
    )
    table.close()
    return server


def _params(table: Table) -> Params:
    base = Params()
    params = Params(
        batch_size=table.integer("batch_size", base.batch_size, 1, 2**16, env="BATCH_SIZE"),
        max_length=table.integer("max_length", base.max_length, 1, MAX_TOKENS, env="MAX_LENGTH"),
        temperature=table.number(
            "temperature", base.temperature, 0, MAX_TEMPERATURE, env="TEMPERATURE"
        ),
        top_p=table.number("top_p", base.top_p, 0, 1, env="TOP_P"),
        do_sample=table.truth("do_sample", base.do_sample, env="DO_SAMPLE"),
        num_threads=table.integer("num_threads", base.num_threads, 0, 4096, env="NUM_THREADS"),
        precision=table.choice("precision", base.precision, PRECISIONS, env="PRECISION"),
        provider=table.choice("provider", base.provider, PROVIDERS, env="PROVIDER"),
    )
    check_temperature(params.temperature, "params.temperature", table.faults)
    table.close()
    return params
