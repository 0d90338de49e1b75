"""config.json and the environment over it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from forge_runtime.config import Config, Identity, ModelConfig, Params, RedisConfig, ServerConfig
from forge_runtime.config_file import load, parse
from forge_runtime.error import ConfigError

FULL: Mapping[str, object] = {
    "schema": 1,
    "platform": "cpu_llm_trf",
    "backend": "transformers",
    "model": {"name": "tiny_gpt2", "path": "/models/weights", "format": "safetensors"},
    "server": {
        "name": "//tiny_gpt2:server",
        "handler": "handler.py",
        "app_dir": "/opt/forge/app",
        "host": "0.0.0.0",
        "port": 3000,
    },
    "params": {
        "batch_size": 2,
        "max_length": 128,
        "temperature": 0.7,
        "top_p": 0.95,
        "do_sample": False,
        "num_threads": 1,
        "precision": "fp32",
    },
}


def read(environ: Mapping[str, str] | None = None, **changes: object) -> Config:
    return parse(json.dumps({**FULL, **changes}), environ or {})


def faults(environ: Mapping[str, str] | None = None, **changes: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(environ, **changes)
    assert "\n" not in str(caught.value)
    return [fault.place for fault in caught.value.faults]


def test_every_value_of_the_file_is_read() -> None:
    expected = Config(
        "cpu_llm_trf",
        "transformers",
        ModelConfig("tiny_gpt2", Path("/models/weights"), "safetensors"),
        ServerConfig("//tiny_gpt2:server", "handler.py", Path("/opt/forge/app"), "0.0.0.0", 3000),
        Params(batch_size=2, max_length=128, temperature=0.7, top_p=0.95, num_threads=1, precision="fp32"),
    )

    assert read() == expected


def test_the_environment_beats_the_file() -> None:
    environ = {
        "SERVER_IP": "127.0.0.1",
        "SERVER_PORT": "8080",
        "BATCH_SIZE": "4",
        "MAX_LENGTH": "64",
        "TEMPERATURE": "0.1",
        "TOP_P": "1",
        "DO_SAMPLE": "Yes",
        "NUM_THREADS": "2",
        "PRECISION": "bf16",
    }

    config = read(environ)

    assert (config.server.host, config.server.port) == ("127.0.0.1", 8080)
    assert config.params == Params(
        batch_size=4, max_length=64, temperature=0.1, do_sample=True, num_threads=2, precision="bf16"
    )


def test_the_environment_beats_a_default() -> None:
    config = read({"BATCH_SIZE": "4"}, params={})

    assert config.params == Params(batch_size=4)


def test_every_key_has_a_variable_that_beats_the_short_one() -> None:
    config = read({"FORGE_SERVER_QUEUE_SIZE": "7", "FORGE_PARAMS_BATCH_SIZE": "8", "BATCH_SIZE": "4"})

    assert (config.server.queue_size, config.params.batch_size) == (7, 8)


def test_a_variable_that_looks_like_ours_and_is_none_is_refused() -> None:
    assert faults({"FORGE_SERVER_QUEUESIZE": "7"}) == ["FORGE_SERVER_QUEUESIZE"]


def test_minus_one_thread_is_the_predecessors_default() -> None:
    assert read({"NUM_THREADS": "-1"}).params.num_threads == 0


def test_the_predecessors_names_of_a_service_act() -> None:
    environ = {
        "APP_NAME": "app",
        "NETWORK_NAME": "net",
        "NETWORK_TYPE": "llm",
        "FOCUS": "lat",
        "AI_DEVICE": "CPU",
        "NODE_NAME": "n1",
        "SEND_METRICS": "True",
        "REDIS_IP": "10.0.0.1",
        "REDIS_PORT": "6380",
        "REDIS_PASSWORD": "s3cret",
        "METRICS_LIST_SIZE": "100",
    }

    config = read(environ)

    assert config.identity == Identity("app", "net", "llm", "lat", "CPU", "n1")
    assert config.redis == RedisConfig(True, "10.0.0.1", 6380, password="s3cret")
    assert config.server.metrics_list_size == 100


def test_a_secret_is_not_shown() -> None:
    config = read({"REDIS_PASSWORD": "s3cret", "FORGE_ADMIN_TOKEN": "t0ken"})

    assert "s3cret" not in repr(config)
    assert "t0ken" not in repr(config)


@pytest.mark.parametrize("endpoint", ["logs", "shutdown"])
def test_what_needs_a_token_is_refused_without_one(endpoint: str) -> None:
    server = {"name": "//tiny_gpt2:server", endpoint: True}

    assert faults(server=server) == ["FORGE_ADMIN_TOKEN"]
    assert getattr(read({"FORGE_ADMIN_TOKEN": "t0ken"}, server=server).server, endpoint)


def test_variables_of_others_are_left_alone() -> None:
    assert read({"PATH": "/bin", "FORGE_PORT": "tcp://10.0.0.1:80"}) == read()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SERVER_IP", ""),
        ("SERVER_PORT", "tcp://10.0.0.1:3000"),
        ("SERVER_PORT", "65536"),
        ("BATCH_SIZE", ""),
        ("BATCH_SIZE", "0"),
        ("BATCH_SIZE", "2.0"),
        ("MAX_LENGTH", "many"),
        ("TEMPERATURE", "nan"),
        ("TOP_P", "1.1"),
        ("DO_SAMPLE", "maybe"),
        ("NUM_THREADS", "-2"),
        ("PRECISION", "fp8"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(name: str, text: str) -> None:
    assert faults({name: text}) == [name]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"schema": 2}, "schema"),
        ({"platform": 5}, "platform"),
        ({"extra": 5}, "extra"),
        ({"model": []}, "model"),
        ({"model": {"name": "x", "path": "y", "digest": ""}}, "model.digest"),
        ({"server": {"prot": 80}}, "server.prot"),
        ({"params": {"batch_size": "2"}}, "params.batch_size"),
        ({"params": {"batch_size": True}}, "params.batch_size"),
        ({"params": {"batch_size": 2.5}}, "params.batch_size"),
        ({"params": {"temperature": 1e-9}}, "params.temperature"),
        ({"params": {"do_sample": 1}}, "params.do_sample"),
        ({"params": {"precision": "fp8"}}, "params.precision"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_name(changes: dict[str, object], place: str) -> None:
    assert place in faults({}, **changes)


def test_all_faults_are_named_at_once() -> None:
    places = faults({"TOP_P": "x"}, params={"batch": 1, "top_p": "y"}, platform=None)

    assert sorted(places) == ["TOP_P", "params.batch", "params.top_p", "platform"]


def test_missing_values_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("{}", {})

    places = [fault.place for fault in caught.value.faults]
    assert places[:4] == ["schema", "platform", "backend", "model"]


@pytest.mark.parametrize("text", ["", "[", "NaN", '{"schema": NaN}', "[" * 100_000, "[]", "null"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text, {})


def test_the_file_is_where_forge_config_says(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(FULL))

    assert load({"FORGE_CONFIG": str(path)}) == read()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.json: the file: Cannot be read: No such"):
        load({"FORGE_CONFIG": str(tmp_path / "nowhere.json")})


@pytest.mark.parametrize(
    ("name", "mode"), [("latency", "latency"), ("lat", "latency"), ("LAT", "latency"), ("THR", "throughput")]
)
def test_the_mode_has_the_names_of_the_predecessors(name: str, mode: str) -> None:
    assert read({"SERVER_MODE": name}).server.mode == mode


def test_an_unknown_mode_and_an_unknown_provider_are_named() -> None:
    params = {"provider": "vulkan"}

    assert faults(server={"mode": "fast"}, params=params) == ["server.mode", "params.provider"]
