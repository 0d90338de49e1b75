"""The configuration of one image, from config.json and the environment.

The file is baked into the image by `compose`; a variable of the environment, where it is set, stands before
the file, and `FORGE_<SECTION>_<KEY>` before the short names that the predecessors had. Nothing is guessed:
an unknown key or a value of the wrong type, in either, ends the start, with all faults named at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from forge_runtime.config import (
    MAX_TEMPERATURE,
    MODES,
    PRECISIONS,
    PROVIDERS,
    Config,
    Identity,
    ModelConfig,
    Params,
    RedisConfig,
    ServerConfig,
    check_temperature,
)
from forge_runtime.error import ConfigError, Fault
from forge_runtime.table import Table, parse_json

__all__ = ["DEFAULT_PATH", "load", "parse"]

DEFAULT_PATH: Final = Path("/etc/forge/config.json")
SCHEMA: Final = 1
MAX_TOKENS: Final = 2**24
DAY_S: Final = 86400
TOKEN: Final = "FORGE_ADMIN_TOKEN"
REDIS_PASSWORD: Final = "REDIS_PASSWORD"
OTHERS: Final = ("FORGE_CONFIG", "FORGE_WORKDIR", TOKEN)
SIMILAR: Final = 0.8
SECTIONS: Final = ("MODEL", "SERVER", "PARAMS", "IDENTITY", "REDIS")


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
    config = _config(root, environ)
    _check_names(environ, root)
    if faults:
        raise ConfigError(path, faults)
    return config


def _config(root: Table, environ: Mapping[str, str]) -> Config:
    root.require("schema", "platform", "backend", "model")
    schema = root.integer("schema", SCHEMA, 0, 2**31)
    if schema != SCHEMA:
        root.faults.append(Fault("schema", f"Expected {SCHEMA}, got `{schema}`; the runtime is of another release"))
    config = Config(
        platform=root.text("platform", ""),
        backend=root.text("backend", ""),
        model=_model(root.table("model")),
        server=_server(root.table("server"), environ.get(TOKEN, "")),
        params=_params(root.table("params")),
        identity=_identity(root.table("identity")),
        redis=_redis(root.table("redis"), environ.get(REDIS_PASSWORD, "")),
        debug=root.truth("debug", False, env="DEBUG_MODE"),
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


def _server(table: Table, token: str) -> ServerConfig:
    base = ServerConfig()
    server = ServerConfig(
        name=table.text("name", base.name),
        handler=table.text("handler", base.handler),
        app_dir=Path(table.text("app_dir", str(base.app_dir))),
        mode=table.choice("mode", base.mode, MODES, env="SERVER_MODE"),
        host=table.text("host", base.host, env="SERVER_IP"),
        port=table.integer("port", base.port, 0, 65535, env="SERVER_PORT"),
        queue_size=table.integer("queue_size", base.queue_size, 1, 2**20),
        max_items=table.integer("max_items", base.max_items, 1, 2**20),
        deadline_s=table.number("deadline_s", base.deadline_s, 0.001, DAY_S),
        hang_s=table.number("hang_s", base.hang_s, 0.001, DAY_S),
        load_timeout_s=table.number("load_timeout_s", base.load_timeout_s, 0.001, DAY_S),
        body_limit=table.integer("body_limit", base.body_limit, 1, 2**31),
        body_timeout_s=table.number("body_timeout_s", base.body_timeout_s, 0.001, DAY_S),
        header_timeout_s=table.number("header_timeout_s", base.header_timeout_s, 0.001, DAY_S),
        write_timeout_s=table.number("write_timeout_s", base.write_timeout_s, 0.001, DAY_S),
        keep_alive_s=table.number("keep_alive_s", base.keep_alive_s, 0.001, DAY_S),
        max_connections=table.integer("max_connections", base.max_connections, 1, 2**20),
        drain_s=table.number("drain_s", base.drain_s, 0, DAY_S),
        logs=table.truth("logs", base.logs),
        shutdown=table.truth("shutdown", base.shutdown),
        metrics_list_size=table.integer("metrics_list_size", base.metrics_list_size, 1, 10**6, env="METRICS_LIST_SIZE"),
        admin_token=token,
    )
    if token != token.strip():
        table.faults.append(Fault(TOKEN, "Begins or ends with white space, which no request can bear"))
    if (server.logs or server.shutdown) and not token:
        table.faults.append(Fault(TOKEN, "Missing: `server.logs` and `server.shutdown` need a token to ask for"))
    table.close()
    return server


def _identity(table: Table) -> Identity:
    base = Identity()
    identity = Identity(
        app_name=table.text("app_name", base.app_name, env="APP_NAME"),
        network_name=table.text("network_name", base.network_name, env="NETWORK_NAME"),
        network_type=table.text("network_type", base.network_type, env="NETWORK_TYPE"),
        focus=table.text("focus", base.focus, env="FOCUS"),
        device=table.text("device", base.device, env="AI_DEVICE"),
        node_name=table.text("node_name", base.node_name, env="NODE_NAME"),
    )
    table.close()
    return identity


def _redis(table: Table, password: str) -> RedisConfig:
    base = RedisConfig()
    send = table.truth("send", base.send, env="SEND_METRICS")
    redis = RedisConfig(
        send=send,
        # Kubernetes sets REDIS_PORT=tcp://... beside a Service of that name: of no matter to who sends nothing.
        host=table.text("host", base.host, env="REDIS_IP" if send else None),
        port=table.integer("port", base.port, 1, 65535, env="REDIS_PORT" if send else None),
        retention_s=table.integer("retention_s", base.retention_s, 0, 2**31),
        buffer=table.integer("buffer", base.buffer, 1, 10**7),
        password=password,
    )
    table.close()
    return redis


def _params(table: Table) -> Params:
    base = Params()
    params = Params(
        batch_size=table.integer("batch_size", base.batch_size, 1, 2**16, env="BATCH_SIZE"),
        batch_wait_ms=table.number("batch_wait_ms", base.batch_wait_ms, 0, 10_000, env="BATCH_WAIT_MS"),
        max_length=table.integer("max_length", base.max_length, 1, MAX_TOKENS, env="MAX_LENGTH"),
        temperature=table.number("temperature", base.temperature, 0, MAX_TEMPERATURE, env="TEMPERATURE"),
        top_p=table.number("top_p", base.top_p, 0, 1, env="TOP_P"),
        do_sample=table.truth("do_sample", base.do_sample, env="DO_SAMPLE"),
        # The predecessors say -1 for all threads.
        num_threads=max(0, table.integer("num_threads", base.num_threads, -1, 4096, env="NUM_THREADS")),
        precision=table.choice("precision", base.precision, PRECISIONS, env="PRECISION"),
        provider=table.choice("provider", base.provider, PROVIDERS, env="PROVIDER"),
        device_index=table.integer("device_index", base.device_index, 0, 1023, env="GPU_DEVICE_INDEX"),
        gpu_memory_share=table.number("gpu_memory_share", base.gpu_memory_share, 0, 1, env="FREE_GPU_MEMORY_FRACTION"),
    )
    check_temperature(params.temperature, "params.temperature", table.faults)
    table.close()
    return params


def _check_names(environ: Mapping[str, str], root: Table) -> None:
    """Refuse a variable that looks like one of ours and is none: a slip would be served.

    Others may have names that begin with FORGE_, such as Kubernetes for a Service of that name.
    """
    for name in sorted(environ):
        if not name.startswith("FORGE_") or name in root.variables or name in OTHERS:
            continue
        near = difflib.get_close_matches(name, root.variables, n=1, cutoff=SIMILAR)
        if near or name.startswith(tuple(f"FORGE_{section}_" for section in SECTIONS)):
            root.faults.append(Fault(name, f"Unknown variable{f'; did you mean `{near[0]}`?' if near else ''}"))
