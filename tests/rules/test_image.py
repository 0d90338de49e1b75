from __future__ import annotations

import json
from typing import Any

import pytest

from forge.core.artifact import Derived
from forge.core.digest import Digest
from forge.core.label import Label
from forge.core.lock import Lock, Material
from forge.core.lock_text import render
from forge.core.provider import ImageInfo, TestInfo
from tests.fakes.workspace import SERVER, FakeWorkspace

IMAGES = SERVER + '\n[images]\nrule = "image"\napps = [":server"]\nname = "{platform}"\n'
IMAGE = "//pkg:cpu_llm_trf"
TEST = '\n[check]\nrule = "test"\nimage = ":images"\ncases = "cases.json"\ntimeout = 7\n'


@pytest.fixture
def package(workspace: FakeWorkspace) -> FakeWorkspace:
    workspace.write("targets/pkg/handler.py")
    workspace.write("targets/pkg/cases.json")
    workspace.build(IMAGES)
    return workspace


def params(workspace: FakeWorkspace, mnemonic: str = "Image") -> Any:
    return json.loads(workspace.action(IMAGE, mnemonic).argv[-1])


def test_layers_stand_in_the_order_of_churn(package: FakeWorkspace) -> None:
    actions = package.analyze(IMAGE).actions
    layers = [
        action for action in actions.values() if action.owner == Label.parse(IMAGE) and action.mnemonic == "Layer"
    ]

    assert [(each.tool, json.loads(each.argv[-1])["place"]["content"]) for each in layers] == [
        ("layer", ""), ("layer", ""), ("model_layers", "models/pkg"), ("layer", "opt/forge/runtime"),
        ("layer", "opt/forge/app"), ("layer", "etc/forge/config.json"),
    ]  # fmt: skip


def test_the_image_is_its_layers_and_nothing_else(package: FakeWorkspace) -> None:
    action = package.action(IMAGE, "Image")

    assert [path for path, _ in action.inputs] == [
        "descriptor.0", "descriptor.1", "descriptor.3", "descriptor.4", "descriptor.5",
        "layer.0", "layer.1", "layer.3", "layer.4", "layer.5", "layers.2",
    ]  # fmt: skip


def test_what_it_is_made_of_is_listed_beside_it(package: FakeWorkspace) -> None:
    graph = package.analyze(IMAGE)
    action, info = graph.actions[f"{IMAGE}#Sbom"], graph.providers[Label.parse(IMAGE)]
    said = json.loads(action.argv[-1])

    assert isinstance(info, ImageInfo)
    assert info.sbom == info.files["cpu_llm_trf.sbom.json"] == Derived(f"{IMAGE}#Sbom", "sbom")
    assert [path for path, _ in action.inputs] == [
        "app", "config", "digest", "environment.00", "environment.01", "model.0", "runtime",
    ]  # fmt: skip
    assert [(row["kind"], row["name"], row["sha256"]) for row in said["packages"]] == [
        ("deb", "python3.11", Digest.of(b"python3.11").hash),
        ("python", "transformers", Digest.of(b"transformers").hash),
    ]
    assert [(row["name"], row["format"], row["precision"]) for row in said["models"]] == [("pkg", "safetensors", "")]


def test_a_fetched_model_is_listed_with_its_commit(package: FakeWorkspace) -> None:
    declared = "[weights]\nrule = 'model'\nsource = 'hf:acme/tiny'\nrevision = 'main'\n"
    package.build(declared + IMAGES[IMAGES.index("[server]") :])
    asked = ("format safetensors", "hf:acme/tiny", "revision main")
    file = Material("acme/tiny", "0" * 40, "model.safetensors", Digest.of(b"x"), "hf")
    lock = Lock("model", "all", asked, (file,), "acme/tiny", "0" * 40)
    package.write("targets/pkg/weights.lock.toml", render(lock))
    (model,) = params(package, "Sbom")["models"]

    assert (model["source"], model["repository"], model["revision"]) == ("hf", "acme/tiny", "0" * 40)


def test_the_image_does_not_depend_on_the_list(package: FakeWorkspace) -> None:
    """The list names the image's digest."""
    actions = package.analyze(IMAGE).actions
    wanted = [
        name for name, action in actions.items() if Derived(f"{IMAGE}#Sbom", "sbom") in dict(action.inputs).values()
    ]

    assert wanted == []


def test_describes_the_image(package: FakeWorkspace) -> None:
    found = params(package)

    assert {
        key: found[key] for key in ("architecture", "user", "entrypoint", "workdir", "ports", "ref", "created")
    } == {
        "architecture": "amd64",
        "user": "65532:65532",
        "entrypoint": ["/usr/bin/python3", "-m", "forge_runtime"],
        "workdir": "/opt/forge/app",
        "ports": ["3000/tcp"],
        "ref": "acme/pkg:cpu_llm_trf",
        "created": "1970-01-01T00:00:00Z",
    }


def test_no_place_of_the_builder_is_in_an_action(package: FakeWorkspace) -> None:
    actions = package.analyze("//...").actions

    assert [name for name, action in actions.items() if str(package.root) in repr(action)] == []


@pytest.mark.parametrize(
    ("repository", "tag", "expected"),
    [
        ("acme", "latest", "acme/pkg:latest"),
        ("", "{name}", "pkg:cpu_llm_trf"),
        ("localhost:5000/acme", "{package}-{platform}", "localhost:5000/acme/pkg-cpu_llm_trf"),
    ],
)
def test_is_called_what_the_workspace_says(package: FakeWorkspace, repository: str, tag: str, expected: str) -> None:
    package.settings |= {"repository": repository, "tag": tag}

    assert params(package)["ref"].replace("/pkg:pkg-", "/pkg-") == expected


def test_a_default_name_has_no_sign_that_a_tag_cannot_have(package: FakeWorkspace) -> None:
    package.build(IMAGES.replace('name = "{platform}"\n', ""))
    package.settings["tag"] = "{name}"
    found = package.analyze("//pkg:images").providers[Label("pkg", "images@cpu_llm_trf")]

    assert isinstance(found, ImageInfo) and found.ref == "acme/pkg:images_cpu_llm_trf"


@pytest.mark.parametrize(
    ("repository", "tag"), [("acme corp", "x"), ("acme", "-x"), ("acme/", "x"), ("acme", "x" * 129)]
)
def test_a_name_that_no_registry_takes_is_an_error(package: FakeWorkspace, repository: str, tag: str) -> None:
    package.settings |= {"repository": repository, "tag": tag}

    assert "cannot be the name of an image\n  hint: Set `repository`" in package.error(IMAGE, analyze=True)


@pytest.mark.parametrize(
    ("apps", "expected"),
    [
        ('[":server", ":other"]', "`//pkg:cpu_llm_trf` needs exactly one service a platform, `apps` gives 2"),
        ('[":checkpoint"]', "`name` has no meaning without platforms"),
    ],
)
def test_needs_one_service_a_platform(package: FakeWorkspace, apps: str, expected: str) -> None:
    other = SERVER.partition("[server]")[2]
    package.build(IMAGES.replace('[":server"]', apps) + f"\n[other]{other}")

    assert expected in package.error("//pkg:images", analyze=True)


def test_needs_a_service(package: FakeWorkspace) -> None:
    package.build(
        IMAGES.replace('[":server"]', '[":checkpoint"]').replace('name = "{platform}"', 'platforms = ["cpu_llm_trf"]')
    )

    assert "`//pkg:checkpoint` gives files, `image` target `//pkg:images@cpu_llm_trf` needs a composed service" in (
        package.error("//pkg:images", analyze=True)
    )


def test_a_test_boots_the_image(package: FakeWorkspace) -> None:
    package.build(IMAGES + TEST)
    graph = package.analyze("//pkg:check")
    action = graph.actions["//pkg:check@cpu_llm_trf#Test"]
    info = graph.providers[Label("pkg", "check@cpu_llm_trf")]

    assert action.root == Derived(f"{IMAGE}#Root", "root/")
    assert action.argv[-4:] == ("--", "/usr/bin/python3", "-m", "forge_runtime")
    assert (action.timeout, dict(action.env)["FORGE_WORKDIR"]) == (7, "/opt/forge/app")
    assert isinstance(info, TestInfo) and info.report == Derived("//pkg:check@cpu_llm_trf#Test", "report.json")


def test_a_test_of_another_machine_s_image_is_skipped(package: FakeWorkspace) -> None:
    """The image itself is made: nothing in it runs."""
    package.build(IMAGES + TEST)
    package.arch = "arm64"
    graph = package.analyze("//pkg:all")

    assert {str(label): fault.text for label, fault in graph.skipped.items()} == {
        "//pkg:check@cpu_llm_trf": "`//pkg:check@cpu_llm_trf` boots a `amd64` image, this machine runs `arm64`"
    }
    assert Label.parse(IMAGE) in graph.providers


@pytest.mark.parametrize(
    ("outs", "expected"),
    [("['a/', 'b/']", "makes 2 outputs, a model is one folder"), ("['a']", "makes a file, a model is a folder")],
)
def test_a_model_is_one_folder(package: FakeWorkspace, outs: str, expected: str) -> None:
    package.build(IMAGES.replace('["checkpoint/"]', outs))

    assert f"`//pkg:checkpoint` {expected}" in package.error("//pkg:weights", analyze=True)


@pytest.mark.parametrize(
    ("workspace_s", "target_s", "flag", "expected"),
    [
        ("embedded", "", "", "image"),
        ("buildx", "", "", "buildx"),
        ("buildx", "embedded", "", "image"),
        ("embedded", "buildx", "", "buildx"),
        ("embedded", "embedded", "buildx", "buildx"),
        ("buildx", "buildx", "embedded", "image"),
    ],
)
def test_a_flag_beats_the_target_and_the_target_the_workspace(
    package: FakeWorkspace, workspace_s: str, target_s: str, flag: str, expected: str
) -> None:
    package.build(IMAGES + (f'assembler = "{target_s}"\n' if target_s else ""))
    package.settings |= {"assembler": workspace_s, "assembler_flag": flag}

    assert expected == package.action(IMAGE, "Image").tool


def test_both_assemblers_are_asked_for_the_same(package: FakeWorkspace) -> None:
    embedded, asked = package.action(IMAGE, "Image"), params(package)
    package.settings["assembler"] = "buildx"
    by_buildx = package.action(IMAGE, "Image")

    assert asked == params(package)
    assert {"template"} == dict(by_buildx.inputs).keys() - dict(embedded.inputs).keys()
    assert ("layout/", "digest", "dockerfile") == by_buildx.outputs


def test_stages_are_asked_for_where_the_workspace_wants_them(package: FakeWorkspace) -> None:
    package.settings |= {"assembler": "buildx", "stages": "yes"}

    assert params(package)["stages"] is True
