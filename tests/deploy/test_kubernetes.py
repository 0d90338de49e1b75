"""Kubernetes manifests, against what the API says of their fields."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from forge.core.errors import UserError
from forge.core.label import Label
from forge.deploy.kubernetes import Resources, render_kubernetes
from forge.deploy.service import Service, dns_label, service_names
from tests.deploy.sample import CPU, GPU, JETSON, OWN

NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
QUANTITY = {"type": ["string", "integer"], "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|[MGTPE]|[KMGTPE]i)?$"}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


def listed(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1}


METADATA = closed(["name"], name=NAME, labels=TEXTS, annotations=TEXTS)
PROBE = closed(
    ["httpGet"],
    httpGet=closed(["port"], path={"type": "string"}, port={"type": ["string", "integer"]}),
    **{key: {"type": "integer", "minimum": 1} for key in ["timeoutSeconds", "periodSeconds", "failureThreshold"]},
)
KEY = closed(["key"], name={"type": "string"}, key={"type": "string"})
CONTAINER = closed(
    ["name"],
    name=NAME,
    image={"type": "string"},
    ports=listed(closed(["containerPort"], name=NAME, containerPort=PORT, protocol={"enum": ["TCP"]})),
    env=listed(
        closed(["name"], name={"type": "string"}, value={"type": "string"}, valueFrom=closed([], secretKeyRef=KEY))
    ),
    **dict.fromkeys(["startupProbe", "livenessProbe", "readinessProbe"], PROBE),
    resources=closed([], **{key: {"additionalProperties": QUANTITY} for key in ["requests", "limits"]}),
    securityContext=closed(
        [],
        allowPrivilegeEscalation={"type": "boolean"},
        readOnlyRootFilesystem={"type": "boolean"},
        capabilities=closed([], drop=listed({"type": "string"})),
    ),
    volumeMounts=listed(closed(["name", "mountPath"], name=NAME, mountPath={"type": "string"})),
)
POD = closed(
    ["containers"],
    automountServiceAccountToken={"type": "boolean"},
    securityContext=closed(
        [],
        runAsNonRoot={"type": "boolean"},
        runAsUser={"type": "integer"},
        runAsGroup={"type": "integer"},
        seccompProfile=closed(["type"], type={"enum": ["RuntimeDefault", "Unconfined", "Localhost"]}),
    ),
    nodeSelector=TEXTS,
    terminationGracePeriodSeconds={"type": "integer", "minimum": 0},
    containers=listed(CONTAINER),
    volumes=listed(closed(["name"], name=NAME, emptyDir={"type": "object"})),
)
COUNT = {"type": ["integer", "string"]}
DEPLOYMENT = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "apps/v1"},
    kind={"const": "Deployment"},
    metadata=METADATA,
    spec=closed(
        ["selector", "template"],
        replicas={"type": "integer"},
        selector=closed([], matchLabels=TEXTS),
        strategy=closed([], type={"type": "string"}, rollingUpdate=closed([], maxSurge=COUNT, maxUnavailable=COUNT)),
        template=closed([], metadata=closed([], labels=TEXTS), spec=POD),
    ),
)
SERVICE = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "v1"},
    kind={"const": "Service"},
    metadata=METADATA,
    spec=closed(
        ["ports"],
        type={"enum": ["ClusterIP"]},
        selector=TEXTS,
        ports=listed(closed(["port"], name=NAME, port=PORT, targetPort=COUNT, protocol={"enum": ["TCP"]})),
    ),
)


def documents(*given: Service, resources: Resources | None = None) -> list[dict[str, Any]]:
    found = list(yaml.safe_load_all(render_kubernetes(given, resources or Resources())))
    for document in found:
        jsonschema.validate(document, DEPLOYMENT if document["kind"] == "Deployment" else SERVICE)
    return found


def pod(service: Service, **resources: str) -> dict[str, Any]:
    deployment, _ = documents(service, resources=Resources(**resources))
    return dict(deployment["spec"]["template"]["spec"])


def test_each_image_is_a_deployment_and_a_service_that_finds_it() -> None:
    found = documents(CPU, GPU, JETSON, OWN)
    deployment, service = found[:2]

    assert ["Deployment", "Service"] * 4 == [each["kind"] for each in found]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert 3000 == service["spec"]["ports"][0]["port"]


def test_it_passes_the_restricted_standard() -> None:
    found = pod(CPU)
    (container,) = found["containers"]

    assert {
        "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
    } == found["securityContext"]  # fmt: skip
    assert {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
    } == container["securityContext"]  # fmt: skip
    assert [{"name": "tmp", "emptyDir": {}}] == found["volumes"]
    assert False is found["automountServiceAccountToken"]


def test_probes_ask_what_they_are_for() -> None:
    (container,) = pod(CPU)["containers"]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}

    assert {"startup": "/readyz", "liveness": "/healthz", "readiness": "/readyz"} == paths


def test_it_lands_on_nodes_of_its_architecture_with_time_to_drain() -> None:
    assert "arm64" == pod(JETSON)["nodeSelector"]["kubernetes.io/arch"]
    assert "kubernetes.io/arch" not in pod(OWN)["nodeSelector"]
    assert 18 == pod(CPU)["terminationGracePeriodSeconds"]


def test_a_gpu_is_a_limit_and_two_pods_do_not_wait_for_one() -> None:
    (container,) = pod(GPU)["containers"]
    deployment, _ = documents(GPU)

    assert 1 == container["resources"]["limits"]["nvidia.com/gpu"]
    assert {"maxSurge": 0, "maxUnavailable": 1} == deployment["spec"]["strategy"]["rollingUpdate"]
    assert "limits" not in pod(CPU)["containers"][0]["resources"]


def test_resources_are_those_that_were_asked_for() -> None:
    (container,) = pod(CPU, cpu="500m", memory="4Gi", memory_limit="8Gi")["containers"]

    assert {"requests": {"cpu": "500m", "memory": "4Gi"}, "limits": {"memory": "8Gi"}} == container["resources"]


def test_a_value_arrives_as_it_was_given_and_a_secret_by_reference() -> None:
    value, secret = pod(CPU)["containers"][0]["env"]

    assert dict(CPU.environ)["GREETING"] == value["value"].replace("$$", "$")
    assert {"secretKeyRef": {"name": "shop-cpu-llm-trf-secrets", "key": "HF_TOKEN"}} == secret["valueFrom"]


def test_names_become_dns_labels() -> None:
    long = dns_label("a" * 80)

    assert ["tiny-gpt2-x", "x-3d", "a-b", "x"] == [dns_label(each) for each in ("tiny_gpt2-X", "3d", "a@@b_", "_")]
    assert 63 == len(long) and long != dns_label("a" * 81)


def test_two_that_would_be_called_the_same_are_refused() -> None:
    with pytest.raises(UserError, match="`//a:b_c` and `//a:b-c` would both be called `a-b-c`"):
        service_names([Label("a", "b_c"), Label("a", "b-c")])
