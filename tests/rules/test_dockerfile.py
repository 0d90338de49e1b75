"""The rule `dockerfile`: the one action that it asks for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forge.core.artifact import Source
from forge.core.label import Label
from forge.core.provider import ImageInfo
from tests.fakes.workspace import SERVER, FakeWorkspace

OWN = """
[own]
rule = "dockerfile"
dockerfile = "Dockerfile"
srcs = ["a.txt"]
architectures = ["amd64"]
"""
LABEL = "//pkg:own"


@pytest.fixture
def package(workspace: FakeWorkspace) -> FakeWorkspace:
    for name in ("Dockerfile", "a.txt", "handler.py"):
        workspace.write(f"targets/pkg/{name}")
    workspace.build(OWN)
    return workspace


def params(workspace: FakeWorkspace, label: str = LABEL) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(workspace.action(label, "Dockerfile").argv[-1])
    return found


def test_the_action_is_the_whole_of_it(package: FakeWorkspace) -> None:
    action = package.action(LABEL, "Dockerfile")

    assert params(package) == {
        "architectures": ["amd64"],
        "args": {},
        "created": "1970-01-01T00:00:00Z",
        "network": False,
        "not_secret": [],
        "path": "targets/pkg/Dockerfile",
        "ref": "acme/pkg:own",
        "secrets": [],
        "setuid": [],
        "target": "",
    }
    assert dict(action.inputs) == {
        "context/a.txt": Source("targets/pkg/a.txt"),
        "dockerfile": Source("targets/pkg/Dockerfile"),
    }
    assert not action.is_fixed_output


def test_arguments_are_typed_and_secrets_are_names(package: FakeWorkspace) -> None:
    package.build(OWN + 'args = { S = "a b", N = 3, F = 0.5, B = true }\nsecrets = ["T", "A"]\ntarget = "final"\n')
    found = params(package)

    assert {"S": "a b", "N": "3", "F": "0.5", "B": "true"} == found["args"]
    assert (["A", "T"], "final") == (found["secrets"], found["target"])


def test_contexts_are_images_and_what_other_targets_make(package: FakeWorkspace) -> None:
    more = '[images]\nrule = "image"\napps = [":server"]\nname = "{platform}"\n'
    made = '[made]\nrule = "command"\nshell = "true"\nouts = ["x", "y/"]\n'
    contexts = 'contexts = { base = ":images", more = ":made" }\n'
    package.build(OWN + contexts + SERVER + more + made)
    inputs = dict(package.action(LABEL, "Dockerfile").inputs)

    assert {"files/more/x", "files/more/y", "images/base/0"} <= inputs.keys()


def test_one_architecture_can_be_run_and_several_are_an_index(package: FakeWorkspace) -> None:
    one = package.analyze(LABEL).providers[Label.parse(LABEL)]
    package.build(OWN.replace('["amd64"]', '["amd64", "arm64"]'))
    both = package.analyze(LABEL).providers[Label.parse(LABEL)]

    assert isinstance(one, ImageInfo) and isinstance(both, ImageInfo)
    assert ("amd64", True) == (one.arch, one.root is not None)
    assert ("", True) == (both.arch, both.root is None)


def test_platforms_make_an_image_each(package: FakeWorkspace) -> None:
    package.build(OWN.replace("architectures", "platforms").replace('["amd64"]', '["amd64", "arm64"]'))

    assert ["//pkg:own@amd64", "//pkg:own@arm64"] == package.requested("//pkg:all")
    assert ["arm64"] == params(package, "//pkg:own@arm64")["architectures"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('contexts = { "--push" = ":own2" }', "`'--push'` of `contexts` of `//pkg:own` cannot be such a name"),
        ('args = { "A=B" = 1 }', "`'A=B'` of `args`"),
        ('args = { "A\\nRUN" = 1 }', "`'A\\nRUN'` of `args`"),
        ('args = { A = "a\\u0000b" }', "`A` of `args` of `//pkg:own` holds a NUL"),
        ("args = { SOURCE_DATE_EPOCH = 1 }", "sets SOURCE_DATE_EPOCH"),
        ('secrets = ["id=x,src=/etc/passwd"]', "`'id=x,src=/etc/passwd'` of `secrets`"),
        ('target = "--x"', "`'--x'` of `target`"),
    ],
)
def test_i05_a_name_that_could_be_more_is_refused(package: FakeWorkspace, line: str, expected: str) -> None:
    package.build(OWN + line + '\n[own2]\nrule = "command"\nshell = "true"\nouts = ["x"]\n')

    assert expected in package.error(LABEL, analyze=True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('args = { HF_TOKEN = "x" }', "`args.HF_TOKEN` of `//pkg:own` looks like a secret"),
        ('args = { INDEX = "https://me:hunter22@x.test/simple" }', "`args.INDEX` of `//pkg:own` looks like a login"),
        ('srcs = ["*", ".env"]', "`.env` of `//pkg:own` is where secrets are kept"),
    ],
)
def test_i01_a_secret_goes_by_mount_alone(package: FakeWorkspace, line: str, expected: str) -> None:
    package.write("targets/pkg/.env")
    own = OWN if line.startswith("args") else OWN.replace('srcs = ["a.txt"]\n', "")
    package.build(f"{own}{line}\n")
    message = package.error(LABEL, analyze=True)

    assert expected in message and "hunter22" not in message
    assert "name it in `secrets`" in message


def test_i01_a_file_that_is_no_secret_is_named(package: FakeWorkspace) -> None:
    package.write("targets/pkg/.env")
    package.build(OWN.replace('srcs = ["a.txt"]', 'srcs = [".env"]') + 'not_secret = [".env"]\n')

    assert [".env"] == params(package)["not_secret"]


@pytest.mark.parametrize("value", ["[]", '["amd64", "amd64"]'])
def test_architectures_are_needed_each_once(package: FakeWorkspace, value: str) -> None:
    package.build(OWN.replace('["amd64"]', value))

    assert "needs `platforms` or `architectures`" in package.error(LABEL, analyze=True)


def test_platforms_and_other_architectures_contradict(package: FakeWorkspace) -> None:
    package.build(OWN + 'platforms = ["arm64"]\n')

    assert "has `platforms` and other `architectures`" in package.error("//pkg:own@arm64", analyze=True)
