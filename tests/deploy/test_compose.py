"""Compose files, read as compose reads them."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import yaml

from forge.deploy.compose import render_compose
from forge.deploy.service import Service
from tests.deploy.sample import CPU, GPU, JETSON, OWN

TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
DURATION = {"type": "string", "pattern": r"^\d+s$"}
SERVICE = {
    "type": "object",
    "required": ["image", "read_only", "cap_drop", "ports"],
    "additionalProperties": False,
    "properties": {
        "image": {"type": "string"},
        "platform": {"enum": ["linux/amd64", "linux/arm64"]},
        "user": {"type": "string"},
        "read_only": {"type": "boolean"},
        "cap_drop": TEXTS,
        "security_opt": TEXTS,
        "tmpfs": TEXTS,
        "ports": TEXTS,
        "environment": {"type": "object", "additionalProperties": {"type": "string"}},
        "healthcheck": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "test": TEXTS,
                "interval": DURATION,
                "timeout": DURATION,
                "start_period": DURATION,
                "retries": {"type": "integer"},
            },
        },
        "stop_grace_period": DURATION,
        "runtime": {"type": "string"},
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "deploy": {
            "type": "object",
            "properties": {
                "resources": {
                    "type": "object",
                    "properties": {
                        "reservations": {
                            "type": "object",
                            "properties": {
                                "devices": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "required": ["capabilities"],
                                        "additionalProperties": False,
                                        "properties": {
                                            "driver": {"type": "string"},
                                            "count": {"type": ["integer", "string"]},
                                            "capabilities": TEXTS,
                                        },
                                    },
                                }
                            },
                        }
                    },
                }
            },
        },
    },
}
"""What the Compose Specification says of the fields that are used here."""
SCHEMA = {
    "type": "object",
    "required": ["services"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": {
            "type": "object",
            "additionalProperties": False,
            "patternProperties": {"^[a-zA-Z0-9._-]+$": SERVICE},
        },
    },
}


def services(*given: Service) -> dict[str, Any]:
    table = yaml.safe_load(render_compose("demo", given))
    jsonschema.validate(table, SCHEMA)
    return dict(table["services"])


def interpolated(text: str, environ: dict[str, str]) -> str:
    """Do to a text what compose does to every one (Compose Specification, `12-interpolation.md`)."""
    form = r"\$(?:(\$)|\{(\w+)(?::\?[^}]*)?\})"
    assert "$" not in re.sub(form, "", text)
    return re.sub(form, lambda found: "$" if found[1] else environ[found[2]], text)


def test_a_service_has_little_that_it_could_misuse() -> None:
    service = services(CPU)["shop-cpu-llm-trf"]

    assert True is service["read_only"]
    assert ["ALL"] == service["cap_drop"]
    assert ["no-new-privileges:true"] == service["security_opt"]
    assert "65532:65532" == service["user"]
    assert ["127.0.0.1:3000:3000"] == service["ports"]


def test_it_is_asked_whether_it_is_ready_by_its_own_python() -> None:
    check = services(CPU)["shop-cpu-llm-trf"]["healthcheck"]["test"]

    assert ["CMD", "/usr/bin/python3", "-c"] == check[:3]
    assert "http://127.0.0.1:3000/readyz" in check[3]
    compile(check[3], "probe", "exec")


def test_it_has_time_to_drain() -> None:
    assert "18s" == services(CPU)["shop-cpu-llm-trf"]["stop_grace_period"]


def test_services_do_not_fight_for_a_port() -> None:
    found = services(CPU, GPU, JETSON, OWN)

    assert ["127.0.0.1:3000:3000", "127.0.0.1:3001:3000", "127.0.0.1:3002:3000", "127.0.0.1:80:80"] == [
        port for service in found.values() for port in service["ports"]
    ]


def test_a_gpu_is_reserved_and_a_jetson_has_its_own_runtime() -> None:
    found = services(CPU, GPU, JETSON)
    devices = found["shop-gpu"]["deploy"]["resources"]["reservations"]["devices"]

    assert [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}] == devices
    assert ("nvidia", False) == (found["shop-agx"]["runtime"], "deploy" in found["shop-agx"])
    assert not {"runtime", "deploy"} & set(found["shop-cpu-llm-trf"])


def test_a_value_arrives_as_it_was_given() -> None:
    environ = services(CPU)["shop-cpu-llm-trf"]["environment"]

    assert dict(CPU.environ)["GREETING"] == interpolated(environ["GREETING"], {})


def test_a_secret_is_the_callers_and_must_be_there() -> None:
    value = services(CPU)["shop-cpu-llm-trf"]["environment"]["HF_TOKEN"]

    assert "${HF_TOKEN:?is a secret of shop-cpu-llm-trf, and not set}" == value
    assert "s3cret" == interpolated(value, {"HF_TOKEN": "s3cret"})


def test_of_somebodys_own_image_nothing_is_supposed() -> None:
    service = services(OWN)["own-tool"]

    assert not {"platform", "user", "healthcheck"} & set(service)
