from __future__ import annotations

import json
from typing import Any

import pytest

from forge.core.artifact import Derived, Source
from forge.core.graph import ActionGraph
from forge.core.label import Label
from forge.core.provider import AppInfo, ImageInfo
from tests.fakes.workspace import SERVER, FakeWorkspace

LABEL = "//pkg:loadgen@client"
CLIENT = """
[loadgen]
rule = "client"
platforms = ["client"]
data = ["prompts.json", "pictures/*"]
dataset = "prompts.json"
"""
IMAGE = CLIENT + '\n[images]\nrule = "image"\napps = [":loadgen"]\nname = "{platform}"\n'


@pytest.fixture
def package(workspace: FakeWorkspace) -> FakeWorkspace:
    for path in ("prompts.json", "pictures/1.png", "handler.py"):
        workspace.write(f"targets/pkg/{path}")
    for path in ("forge_client/cli.py", "forge_client/notes.txt", "forge_runtime/server.py"):
        workspace.write(path)
    return workspace


def gathered(graph: ActionGraph, what: str, label: str = LABEL) -> list[str]:
    """Name the files of a tree, by the paths that they get."""
    (action,) = [each for each in graph.actions.values() if each.description == f"Gather {what} {label}"]
    return sorted(json.loads(action.argv[-1])["place"].values())


def config(package: FakeWorkspace) -> Any:
    return json.loads(json.loads(package.action(LABEL, "Write").argv[-1])["text"])


def test_bakes_what_it_does_when_it_is_told_nothing(package: FakeWorkspace) -> None:
    package.build(CLIENT + 'concurrency = "1:4"\nrequests = 20\nwarmup = 0\napi = "chat"\n')

    assert config(package) == {
        "schema": 1,
        "platform": "client",
        "defaults": {
            "api": "chat",
            "concurrency": "1:4",
            "dataset": "/opt/forge/app/prompts.json",
            "requests": 20,
            "warmup": 0,
        },
    }


def test_says_nothing_of_what_it_finds_out_itself(package: FakeWorkspace) -> None:
    package.build(CLIENT.replace('dataset = "prompts.json"\n', ""))

    assert config(package)["defaults"] == {"concurrency": "1", "requests": 100, "warmup": 5}


def test_carries_the_client_and_its_data_and_nothing_of_the_server(package: FakeWorkspace) -> None:
    package.build(CLIENT)
    graph = package.analyze("//pkg:loadgen")

    assert gathered(graph, "client") == ["forge_client/cli.py"]
    assert gathered(graph, "data") == ["pictures/1.png", "prompts.json"]


def test_a_service_carries_nothing_of_the_client(package: FakeWorkspace) -> None:
    package.build(SERVER)

    assert gathered(package.analyze("//pkg:server"), "runtime", "//pkg:server@cpu_llm_trf") == [
        "forge_runtime/harness.py", "forge_runtime/server.py",
    ]  # fmt: skip


def test_hands_on_a_client_without_model_and_port(package: FakeWorkspace) -> None:
    package.build(CLIENT)
    info = package.analyze("//pkg:loadgen").providers[Label.parse(LABEL)]

    assert isinstance(info, AppInfo)
    assert (info.model, info.port, info.entrypoint) == (None, 0, ("/usr/bin/python3", "-m", "forge_client"))
    assert dict(info.environ)["FORGE_CLIENT_CONFIG"] == "/etc/forge/config.json"
    assert (info.environment and info.environment.tree) == Derived("//toolchains:client#Root", "tree/")


@pytest.mark.parametrize(("data", "expected"), [("['prompts.json']", "/opt/forge/app"), ("[]", "/tmp")])
def test_starts_in_a_folder_that_is_there(package: FakeWorkspace, data: str, expected: str) -> None:
    package.build(f"[loadgen]\nrule = 'client'\nplatforms = ['client']\ndata = {data}\n")
    info = package.analyze("//pkg:loadgen").providers[Label.parse(LABEL)]

    assert isinstance(info, AppInfo) and info.workdir == expected


def test_its_image_has_no_layer_of_a_model_and_no_port(package: FakeWorkspace) -> None:
    package.build(IMAGE)
    graph = package.analyze("//pkg:client")
    layers = [each for each in graph.actions.values() if each.owner == Label.parse("//pkg:client")]
    params = json.loads(graph.actions["//pkg:client#Image"].argv[-1])
    info = graph.providers[Label.parse("//pkg:client")]

    assert [json.loads(each.argv[-1])["place"]["content"] for each in layers if each.mnemonic == "Layer"] == [
        "", "opt/forge/runtime", "opt/forge/app", "etc/forge/config.json",
    ]  # fmt: skip
    assert (params["ports"], params["entrypoint"]) == ([], ["/usr/bin/python3", "-m", "forge_client"])
    assert isinstance(info, ImageInfo)
    assert (info.port, info.entrypoint[-1], info.ref) == (0, "forge_client", "acme/pkg:client")


def test_the_image_of_a_service_says_its_port(package: FakeWorkspace) -> None:
    package.build(SERVER + 'port = 4000\n[images]\nrule = "image"\napps = [":server"]\nname = "{platform}"\n')
    info = package.analyze("//pkg:cpu_llm_trf").providers[Label.parse("//pkg:cpu_llm_trf")]

    assert isinstance(info, ImageInfo)
    assert (info.port, info.entrypoint[-1]) == (4000, "forge_runtime")


def test_a_changed_default_changes_the_configuration_and_nothing_else(package: FakeWorkspace) -> None:
    package.build(CLIENT + "requests = 20\n")
    before = package.analyze("//pkg:loadgen").actions
    package.build(CLIENT + "requests = 21\n")
    after = package.analyze("//pkg:loadgen").actions

    assert [name for name in {**before, **after} if before.get(name) != after.get(name)] == [f"{LABEL}#Write"]


@pytest.mark.parametrize(("dataset", "good"), [("pictures", True), ("pictures/", True), ("pic", False), ("/", False)])
def test_the_data_set_is_part_of_the_data(package: FakeWorkspace, dataset: str, good: bool) -> None:
    package.build(CLIENT.replace('dataset = "prompts.json"', f'dataset = "{dataset}"'))
    if good:
        assert config(package)["defaults"]["dataset"] == f"/opt/forge/app/{dataset}"
        return

    assert package.error("//pkg:loadgen", analyze=True) == (
        f"targets/pkg/BUILD.toml:1: `dataset` of `{LABEL}` is `{dataset}`, which is not in its `data`"
    )


def test_a_platform_with_a_backend_is_none_for_a_client(package: FakeWorkspace) -> None:
    package.build(CLIENT.replace('["client"]', '["cpu_llm_trf"]'))

    assert package.error("//pkg:loadgen", analyze=True) == (
        "targets/pkg/BUILD.toml:1: Platform `cpu_llm_trf` has a backend, which a client has no use for\n"
        '  hint: Give it a platform without one: `platforms = ["client"]`'
    )


def test_the_files_of_both_packages_are_known_to_rules(package: FakeWorkspace) -> None:
    package.build(CLIENT)

    assert package.load("//pkg:loadgen").runtime == tuple(
        Source(path, "runtime")
        for path in ("forge_client/cli.py", "forge_runtime/harness.py", "forge_runtime/server.py")
    )
