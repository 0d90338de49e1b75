from __future__ import annotations

import json

import pytest

from forge.core.label import Label
from forge.core.provider import IndexInfo
from tests.fakes.workspace import SERVER, FakeWorkspace

ARM = "[device]\narch = 'arm64'\n[{}_llm_trf]\nbackend = 'trf'\nbase = 'python311'\n"
JETSON = ARM.replace("'arm64'\n", "'arm64'\naccelerator = 'cuda'\njetpack = '6.1'\n")
IMAGES = SERVER.replace('["cpu_llm_trf"]', '["*_trf", "!gpu_*"]') + (
    '\n[images]\nrule = "image"\napps = [":server"]\nname = "{platform}"\n\n[multi]\nrule = "index"\n'
)


@pytest.fixture
def package(workspace: FakeWorkspace) -> FakeWorkspace:
    workspace.write("targets/pkg/handler.py")
    workspace.write("toolchains/arm.toml", ARM.format("arm"))
    workspace.write("toolchains/orin.toml", JETSON.format("orin"))
    return workspace


def test_an_index_is_over_the_images_of_two_architectures(package: FakeWorkspace) -> None:
    package.build(IMAGES + 'images = [":cpu_llm_trf", ":arm_llm_trf"]\nannotations = { owner = "us" }\n')
    action = package.action("//pkg:multi", "Index")
    said = json.loads(action.argv[-1])
    info = package.analyze("//pkg:multi").providers[Label("pkg", "multi")]

    assert isinstance(info, IndexInfo) and list(info.files) == ["multi"]
    assert [name for name, _ in action.inputs] == ["layout.0", "layout.1"]
    assert (said["platforms"], said["ref"]) == (["cpu_llm_trf", "arm_llm_trf"], "acme/pkg:multi")
    assert (said["annotations"]["owner"], said["annotations"]["io.forge.target"]) == ("us", "//pkg:multi")


def test_of_all_instances_of_a_generator_globs_select(package: FakeWorkspace) -> None:
    package.build(IMAGES + 'images = [":images"]\nonly = ["*", "!orin_*"]\n')

    assert json.loads(package.action("//pkg:multi", "Index").argv[-1])["platforms"] == ["arm_llm_trf", "cpu_llm_trf"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            'images = [":images"]\nonly = ["arm_*", "orin_*"]\n',
            "`orin_llm_trf` is for a Jetson (JetPack 6.1) and `arm_llm_trf` for any arm64 machine: in `//pkg:multi` "
            "they would be one entry\n  hint: Give the Jetson an index of its own",
        ),
        (
            'images = [":cpu_llm_trf", ":again"]\n',
            "`cpu_llm_trf` and `gpu_llm_trf` are both for amd64: `//pkg:multi` has one entry for it\n",
        ),
        ('images = [":images"]\nonly = ["x_*"]\n', "`only` of `//pkg:multi` leaves none of its images: [x_*]"),
        ('images = [":server"]\n', "gives a composed service, `index` target `//pkg:multi` needs an image"),
    ],
)
def test_says_what_does_not_go_together(package: FakeWorkspace, lines: str, expected: str) -> None:
    more = SERVER[SERVER.index("[server]") :].replace("server", "other").replace("cpu_llm", "gpu_llm")
    package.lock("devices/locks/gpu_llm_trf.python.toml", "python", "amd64", "transformers")
    package.build(IMAGES + lines + more + '\n[again]\nrule = "image"\napps = [":other"]\nname = "again"\n')

    assert expected in package.error("//pkg:multi", analyze=True)
