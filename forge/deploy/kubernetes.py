"""Kubernetes manifests: a Deployment and a Service each, under the `restricted` pod security standard.

The fields are those of `apps/v1` Deployment and `v1` Service. Kubernetes expands `$(NAME)` in values of variables, and
takes `$$` for a `$`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forge.deploy import yaml
from forge.deploy.service import LIVE, READY, USER, Service, header
from forge.deploy.yaml import Value

_NAME = "app.kubernetes.io/name"
_GPU = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class Resources:
    """What a container asks for, as Kubernetes writes quantities."""

    cpu: str = "1"
    memory: str = "2Gi"
    memory_limit: str = ""
    """Empty for none: a bound that nobody has measured would kill services."""


def render_kubernetes(services: Sequence[Service], resources: Resources) -> str:
    """Write the documents, one after another."""
    secrets = {service.name: service.secrets for service in services if service.secrets}
    comments = [
        f"kubectl create secret generic {_secret(name)} {' '.join(f'--from-literal={each}=…' for each in names)}"
        for name, names in secrets.items()
    ]
    documents = [each for service in services for each in (_deployment(service, resources), _service(service))]
    text = "---\n".join(yaml.document(each) for each in documents)
    return header("forge export k8s", comments, secrets) + text


def _metadata(service: Service) -> dict[str, Value]:
    labels: dict[str, Value] = {_NAME: service.name, "app.kubernetes.io/managed-by": "forge"}
    return {"name": service.name, "labels": labels, "annotations": {"io.forge/target": str(service.label)}}


def _deployment(service: Service, resources: Resources) -> dict[str, Value]:
    spec: dict[str, Value] = {"replicas": 1, "selector": {"matchLabels": {_NAME: service.name}}}
    if service.has_cuda:
        # A second pod beside the first would wait for a GPU that the first one has.
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    spec["template"] = {"metadata": {"labels": {_NAME: service.name}}, "spec": _pod(service, resources)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _metadata(service), "spec": spec}


def _service(service: Service) -> dict[str, Value]:
    port: dict[str, Value] = {"name": "http", "port": service.port, "targetPort": "http", "protocol": "TCP"}
    spec: dict[str, Value] = {"type": "ClusterIP", "selector": {_NAME: service.name}, "ports": [port]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(service), "spec": spec}


def _pod(service: Service, resources: Resources) -> dict[str, Value]:
    security: dict[str, Value] = {"runAsNonRoot": True}
    if service.is_probed:
        security |= {"runAsUser": USER, "runAsGroup": USER}
    nodes: dict[str, Value] = {"kubernetes.io/os": "linux"}
    if service.arch:
        nodes["kubernetes.io/arch"] = service.arch
    return {
        "automountServiceAccountToken": False,
        "securityContext": {**security, "seccompProfile": {"type": "RuntimeDefault"}},
        "nodeSelector": nodes,
        "terminationGracePeriodSeconds": service.grace_s,
        "containers": [_container(service, resources)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }


def _container(service: Service, resources: Resources) -> dict[str, Value]:
    port: dict[str, Value] = {"name": "http", "containerPort": service.port, "protocol": "TCP"}
    table: dict[str, Value] = {"name": service.name, "image": service.image, "ports": [port]}
    environ: list[Value] = [{"name": name, "value": value.replace("$", "$$")} for name, value in service.environ]
    environ += [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": _secret(service.name), "key": name}}}
        for name in service.secrets
    ]
    if environ:
        table["env"] = environ
    if service.is_probed:
        table |= {
            # Until it is ready nothing else is asked: a large model takes minutes, and nobody may end it meanwhile.
            "startupProbe": {**_get(READY), "periodSeconds": 5, "failureThreshold": 360},
            "livenessProbe": {**_get(LIVE), "periodSeconds": 10, "failureThreshold": 3},
            "readinessProbe": {**_get(READY), "periodSeconds": 5, "failureThreshold": 1},
        }
    requests: dict[str, Value] = {"cpu": resources.cpu, "memory": resources.memory}
    limits: dict[str, Value] = {"memory": resources.memory_limit} if resources.memory_limit else {}
    if service.has_cuda:
        requests[_GPU] = limits[_GPU] = 1
    security: dict[str, Value] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    return {
        **table,
        "resources": {"requests": requests, **({"limits": limits} if limits else {})},
        "securityContext": security,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _get(path: str) -> dict[str, Value]:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 5}


def _secret(name: str) -> str:
    """Name the Secret that has a service's; longer than a label, which names of Secrets may be."""
    return f"{name}-secrets"
