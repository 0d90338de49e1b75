"""The rule `test`: what is run, what is only looked at, and expectations that contradict themselves."""

from __future__ import annotations

import json

import pytest

from forge.cli.testing import Testing
from forge.core.artifact import Derived
from forge.core.label import Label
from forge.core.provider import TestInfo
from forge.execution.docker_executor import CONTAINER
from tests.fakes.workspace import SERVER, FakeWorkspace

IMAGES = '\n[images]\nrule = "image"\napps = [":server"]\nname = "{platform}"\n'
CHECK = "//pkg:check@cpu_llm_trf"


def check(workspace: FakeWorkspace, text: str) -> FakeWorkspace:
    workspace.build(f'{SERVER}{IMAGES}\n[check]\nrule = "test"\nimage = ":images"\n{text}')
    for name in ("handler.py", "cases.json"):
        workspace.write(f"targets/pkg/{name}")
    return workspace


def test_expectations_are_an_action_of_forges_own(workspace: FakeWorkspace) -> None:
    check(workspace, 'config = { user = "1:1", entrypoint = [] }\n[check.files."/etc/x"]\nexecutable = true')
    action = workspace.action(CHECK, "Test")

    assert "inspect" == action.tool
    assert {
        "config": {"user": "1:1", "entrypoint": []}, "files": {"/etc/x": {"exists": True, "executable": True}},
    } == json.loads(action.argv[-1])  # fmt: skip
    assert ["layout", "root"] == [path for path, _ in action.inputs]


def test_an_image_for_another_machine_can_be_looked_at(workspace: FakeWorkspace) -> None:
    workspace.arch = "arm64"
    workspace.lock("devices/locks/busybox.arm64.deb.toml", "deb", "arm64", "busybox-static")

    assert "inspect" == check(workspace, 'config = { user = "1:1" }').action(CHECK, "Test").tool


def test_requests_and_expectations_go_together(workspace: FakeWorkspace) -> None:
    graph = check(workspace, 'cases = "cases.json"\nconfig = { ports = [80] }').analyze(CHECK)
    info = graph.providers[Label.parse(CHECK)]

    assert isinstance(info, TestInfo)
    assert ["check@cpu_llm_trf.inspection.json", "check@cpu_llm_trf.report.json"] == sorted(info.files)
    assert isinstance(info.report, Derived) and not graph.actions[info.report.action].tool


def test_a_script_boots_the_image_as_requests_do(workspace: FakeWorkspace) -> None:
    workspace.write("targets/pkg/check.py")
    action = check(workspace, 'script = "check.py"').action(CHECK, "Test")

    assert "/build/script.py" in action.argv and "--cases" not in action.argv
    assert {"script.py", "harness.py"} == {path for path, _ in action.inputs}


def test_a_test_in_a_container_is_an_action_of_its_own(workspace: FakeWorkspace) -> None:
    """Of the image's layout, with none of the sandbox's variables: those are the image's there."""
    graph = check(workspace, 'cases = "cases.json"').analyze(CHECK)
    info = graph.providers[Label.parse(CHECK)]
    assert isinstance(info, TestInfo) and isinstance(info.report, Derived)
    plain = graph.actions[info.report.action]
    action = Testing().contained(graph).actions[info.report.action]

    assert action.root is None and plain.root is not None
    assert {"image", "harness.py", "cases.json"} == {path for path, _ in action.inputs}
    assert ["FORGE_CONFIG", "FORGE_WORKDIR"] == [name for name, _ in action.env]
    assert (plain.argv, plain.outputs) == (action.argv, action.outputs)
    assert CONTAINER in action.properties


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expects nothing of its image"),
        ('[check.files."etc/x"]', "`'etc/x'` of `files` of `//pkg:check@cpu_llm_trf` is no absolute path"),
        ('[check.files."/etc/../x"]', "is no absolute path"),
        ('[check.files."/x"]\nexists = false\ncontains = "a"', "is not to exist, and to be something"),
        ('[check.files."/x"]\nkind = "folder"\ncontains = "a"', "is to be a folder, and to have content"),
    ],
)
def test_expectations_that_cannot_be_are_refused(workspace: FakeWorkspace, text: str, message: str) -> None:
    error = check(workspace, text).error(CHECK, analyze=True)

    assert message in error
    assert error.startswith("targets/pkg/BUILD.toml:")


def test_a_key_that_there_is_not_is_named(workspace: FakeWorkspace) -> None:
    assert "Unknown attribute `mode`" in check(workspace, '[check.files."/x"]\nmode = "0644"').error(CHECK)
