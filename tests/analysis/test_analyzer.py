from __future__ import annotations

import pytest

from forge.analysis.context import location
from forge.core.artifact import Derived, Source
from forge.core.label import Label
from tests.fakes.workspace import SERVER, FakeWorkspace

COMMAND = "[{}]\nrule = 'command'\nshell = 'x'\nouts = ['o']\n"
UNLOCKED = "[e]\nrule = 'environment'\ndebs = ['x']\nplatforms = ['amd64']\n"
ASKING = """
from forge.api import Attributes, Context, EnvironmentInfo, ImageInfo, Provider, rule


class Attrs(Attributes):
    pass


@rule("ask", Attrs)
def analyze(context: Context, attrs: Attrs) -> Provider:
    {}
    return Provider()
"""


@pytest.fixture
def package(workspace: FakeWorkspace) -> FakeWorkspace:
    workspace.write("targets/pkg/handler.py")
    workspace.build(SERVER)
    return workspace


def test_analysis_is_pure(package: FakeWorkspace) -> None:
    graph = package.load("//...")

    assert package.analyzed(graph) == package.analyzed(graph)


def test_two_loads_come_to_the_same(package: FakeWorkspace) -> None:
    assert package.analyze("//...") == package.analyze("//...")


def test_actions_stand_after_what_they_need(package: FakeWorkspace) -> None:
    graph = package.analyze("//...")
    order = {name: number for number, name in enumerate(graph.actions)}

    assert all(order[dep] < order[name] for name in graph.actions for dep in graph.dependencies(name))


def test_the_versions_of_tools_are_in_their_actions(package: FakeWorkspace) -> None:
    graph = package.load("//toolchains:busybox@amd64")
    one, other = (package.analyzed(graph, {"fetch": "1", "root": "1", "unpack": version}).actions for version in "12")

    assert {one[name].tool for name in one if one[name] != other[name]} == {"unpack"}


@pytest.mark.parametrize("known", [{"root": "1", "unpack": "1"}, {"fetch": "1", "root": "1"}])
def test_a_tool_that_nobody_has_is_an_error(package: FakeWorkspace, known: dict[str, str]) -> None:
    with pytest.raises(Exception, match=r"Unknown tool `(fetch|unpack)`"):
        package.analyzed(package.load("//toolchains:busybox@amd64"), known)


def test_every_fault_is_reported_and_dependents_add_none(package: FakeWorkspace) -> None:
    bad = COMMAND.replace("shell = 'x'\n", "")
    package.build(bad.format("a") + bad.format("b") + COMMAND.format("c") + "deps = [':a']\n")

    assert package.error("//pkg:all", analyze=True).splitlines() == [
        "targets/pkg/BUILD.toml:1: `//pkg:a` needs `argv` or `shell`, and not both",
        "targets/pkg/BUILD.toml:4: `//pkg:b` needs `argv` or `shell`, and not both",
    ]


def test_what_needs_something_unavailable_is_unavailable(package: FakeWorkspace) -> None:
    text = UNLOCKED + COMMAND.format("a") + "environment = ':e'\n" + COMMAND.format("b") + "deps = [':a']\n"
    package.build(text + COMMAND.format("c"))
    graph = package.analyze("//pkg:all")
    fault = "`//pkg:e@amd64` is not locked: no `e.amd64.deb.toml`"

    assert {str(label): each.text for label, each in graph.skipped.items()} == dict.fromkeys(
        ["//pkg:a", "//pkg:b", "//pkg:e@amd64"], fault
    )
    assert Label("pkg", "c") in graph.providers
    assert package.error("//pkg:b", analyze=True) == (
        f"targets/pkg/BUILD.toml:1: {fault}\n  hint: Run `forge lock //pkg:e`"
    )


def test_only_what_was_asked_for_counts_as_skipped(package: FakeWorkspace) -> None:
    package.build(UNLOCKED + "tags = ['manual']\n" + COMMAND.format("a") + "environment = ':e'\n")

    assert list(map(str, package.analyze("//pkg:all").skipped)) == ["//pkg:a"]


def test_actions_of_one_target_have_names_of_their_own(package: FakeWorkspace) -> None:
    package.write("rules/ask.py", ASKING.format("[context.write(name, '') for name in 'abc']"))
    package.build("[x]\nrule = 'ask'\n")

    assert list(package.analyze("//pkg:x").actions) == ["//pkg:x#Write", "//pkg:x#Write.1", "//pkg:x#Write.2"]


def test_an_unfinished_environment_cannot_run_anything(package: FakeWorkspace) -> None:
    package.write(
        "rules/ask.py", ASKING.format("context.run(['x'], environment=EnvironmentInfo(), inputs={}, outputs=['o'])")
    )
    package.build("[x]\nrule = 'ask'\n")

    assert "runs on `amd64`, its environment is for another" in package.error("//pkg:x", analyze=True)


@pytest.mark.parametrize(
    ("artifact", "expected"),
    [
        (Source("targets/pkg/a.txt"), "targets/pkg/a.txt"),
        (Derived("//pkg:x#Command", "o"), "pkg/x/o"),
        (Derived("//a/b:x@cpu#Command.1", "f/"), "a/b/x@cpu/f"),
    ],
)
def test_artifacts_have_a_place_by_convention(artifact: Source | Derived, expected: str) -> None:
    assert location(artifact) == expected


def test_two_targets_may_not_make_one_output(workspace: FakeWorkspace) -> None:
    """The second would replace the first below `forge-out`."""
    text = "[a]\nrule = 'command'\nshell = 'x'\nouts = ['t']\n[b]\nrule = 'command'\nshell = 'y'\nouts = ['t']\n"
    workspace.build(text)

    assert "`//pkg:a` and `//pkg:b` both make `pkg/t`" in workspace.error("//pkg:all", analyze=True)


def test_an_output_may_not_lie_below_another(workspace: FakeWorkspace) -> None:
    workspace.build("[sub]\nrule = 'command'\nshell = 'x'\nouts = ['sub']\n")
    workspace.build("[a]\nrule = 'command'\nshell = 'x'\nouts = ['a']\n", "pkg/sub")

    assert "`//pkg/sub:a` makes `pkg/sub/a` below what `//pkg:sub` makes" in workspace.error("//...", analyze=True)
