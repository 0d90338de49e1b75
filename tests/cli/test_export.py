"""`forge export` on a workspace, without and with a build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.e2e.program import REPOSITORY, Forge

WORKSPACE = """\
[workspace]
name = "demo"

[image]
created = "2024-01-02T03:04:05Z"

[buildx]
cache_from = ["type=gha,scope={name}"]
"""
BUILD = """\
[server]
rule = "compose"
models = [":weights"]
handler = "handler.py"
platforms = ["cpu_llm_trf", "arm_llm_trf", "gpu_llm_trf"]
secrets = ["HF_TOKEN"]
port = 8080

[server.serving]
drain_s = 100

[weights]
rule = "model"
source = ":checkpoint"

[checkpoint]
rule = "command"
shell = "mkdir $OUT; echo {} > $OUT/config.json"
outs = ["checkpoint/"]

[images]
rule = "image"
apps = [":server"]
name = "{platform}"

[both]
rule = "index"
images = [":cpu_llm_trf", ":arm_llm_trf"]
"""


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    folder = tmp_path / "ws/targets/shop"
    folder.mkdir(parents=True)
    (tmp_path / "ws/WORKSPACE.toml").write_text(WORKSPACE)
    (folder / "BUILD.toml").write_text(BUILD)
    (folder / "handler.py").touch()
    return Forge(REPOSITORY, tmp_path / "ws", {"FORGE_HOME": str(tmp_path / "home")})


def test_a_compose_file_says_what_the_targets_say(forge: Forge) -> None:
    table = yaml.safe_load(forge("export", "compose", "//shop/...").stdout)
    gpu = table["services"]["shop-gpu-llm-trf"]

    assert "demo" == table["name"]
    assert ["shop-arm-llm-trf", "shop-cpu-llm-trf", "shop-gpu-llm-trf"] == list(table["services"])
    assert ("demo/shop:gpu_llm_trf", "linux/amd64", "105s") == (
        gpu["image"], gpu["platform"], gpu["stop_grace_period"]
    )  # fmt: skip
    assert "deploy" in gpu
    assert gpu["environment"]["HF_TOKEN"].startswith("${HF_TOKEN:?")


def test_the_same_targets_give_the_same_bytes(forge: Forge) -> None:
    first = forge("export", "k8s", "//shop/...").stdout

    assert first == forge("export", "k8s", "//shop/...").stdout


def test_nothing_is_built_for_it(forge: Forge, tmp_path: Path) -> None:
    forge("export", "k8s", "//shop/...")

    assert not list((tmp_path / "home").glob("ac/*/*"))


def test_an_index_is_no_service(forge: Forge) -> None:
    assert "`//shop:both` is an index, and is no service" in forge("export", "k8s", "//shop:both", code=1).stderr


@pytest.mark.e2e
def test_digests_and_a_bake_file_come_from_a_build(tmp_path: Path) -> None:
    forge = Forge(REPOSITORY, REPOSITORY)
    built = json.loads(forge("build", "//tiny_vision:cpu_onnx", "--output=json").stdout)
    digest = built["targets"][0]["digest"]
    compose = yaml.safe_load(forge("export", "compose", "//tiny_vision:cpu_onnx", "--pin").stdout)
    here = forge("export", "bake", "//tiny_vision:cpu_onnx", f"--to={tmp_path}/bake.json")
    target = json.loads((tmp_path / "bake.json").read_text())["target"]["tiny-vision-cpu-onnx"]
    layout = tmp_path / "bake.layouts/tiny-vision-cpu-onnx"

    assert f"forge/tiny_vision@{digest}" == compose["services"]["tiny-vision-cpu-onnx"]["image"]
    assert target["contexts"]["image"].endswith(f"bake.layouts/tiny-vision-cpu-onnx@{digest}")
    assert (layout / "blobs" / digest.replace(":", "/")).is_file()
    assert "written" in here.stderr
    forge("export", "bake", "//tiny_vision:cpu_onnx", f"--to={tmp_path}/bake.json")  # over what was there


@pytest.mark.e2e
def test_what_is_in_the_way_of_a_layout_stays(tmp_path: Path) -> None:
    forge = Forge(REPOSITORY, REPOSITORY)
    other = tmp_path / "bake.layouts/tiny-vision-cpu-onnx/mine"
    other.mkdir(parents=True)

    result = forge("export", "bake", "//tiny_vision:cpu_onnx", f"--to={tmp_path}/bake.json", code=1)
    assert "is in the way" in result.stderr
    assert other.is_dir()
