"""A Docker compose file: each service with what is taken away from it, on loopback only.

The Compose Specification is at https://github.com/compose-spec/compose-spec. A `$` begins a variable there, in every
text, so that each of ours is written twice; the one that stands alone is a secret's, which compose takes from its
environment, and without which it starts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from forge.deploy import yaml
from forge.deploy.service import PYTHON, READY, USER, Service, header
from forge.deploy.yaml import Value

_PROBE = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}{path}', timeout=4)"


def render_compose(project: str, services: Sequence[Service]) -> str:
    """Write the file; `project` is a DNS label."""
    taken: set[int] = set()
    table: dict[str, Value] = {}
    for service in services:
        port = next(number for number in range(service.port, 65536 + service.port) if number not in taken)
        taken.add(port)
        table[service.name] = _service(service, port)
    secrets = {service.name: service.secrets for service in services if service.secrets}
    comments = ["Secrets are variables of whoever runs `docker compose`."] if secrets else []
    return header("forge export compose", comments, secrets) + yaml.document({"name": project, "services": table})


def _service(service: Service, port: int) -> dict[str, Value]:
    environ: dict[str, Value] = {name: _text(value) for name, value in service.environ}
    environ |= {name: f"${{{name}:?is a secret of {service.name}, and not set}}" for name in service.secrets}
    table: dict[str, Value] = {"image": _text(service.image)}
    if service.arch:
        table["platform"] = f"linux/{service.arch}"
    if service.is_probed:
        table["user"] = f"{USER}:{USER}"
    table |= {
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        # Engines compile kernels there and load them, which a tmpfs forbids unless it is told.
        "tmpfs": ["/tmp:exec,mode=1777"],
        "ports": [f"127.0.0.1:{port}:{service.port}"],
    }
    if environ:
        table["environment"] = environ
    if service.is_probed:
        table |= {"healthcheck": _healthcheck(service), "stop_grace_period": f"{service.grace_s}s"}
    if service.is_jetson:
        table["runtime"] = "nvidia"
    elif service.has_cuda:
        devices: Value = [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
        table["deploy"] = {"resources": {"reservations": {"devices": devices}}}
    return {**table, "labels": {"io.forge.target": _text(str(service.label))}, "restart": "unless-stopped"}


def _healthcheck(service: Service) -> dict[str, Value]:
    words: list[Value] = ["CMD", PYTHON, "-c", _PROBE.format(port=service.port, path=READY)]
    # A large model takes minutes to load; a failure before that is no failure yet.
    return {"test": words, "interval": "10s", "timeout": "5s", "retries": 3, "start_period": "600s"}


def _text(value: str) -> str:
    return value.replace("$", "$$")
