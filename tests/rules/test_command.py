from __future__ import annotations

import pytest

from forge.core.artifact import Derived, Source
from forge.core.label import Label
from tests.fakes.workspace import FakeWorkspace

HEAD = "[x]\nrule = 'command'\n"


@pytest.fixture
def package(workspace: FakeWorkspace) -> FakeWorkspace:
    workspace.write("targets/pkg/a.txt")
    workspace.write("targets/pkg/b.txt")
    workspace.build("[d]\nrule = 'command'\nshell = 'x'\nouts = ['one', 'many/']\n", "dep")
    return workspace


def argv(workspace: FakeWorkspace) -> tuple[str, ...]:
    return workspace.action("//pkg:x", "Command").argv


def variables(workspace: FakeWorkspace) -> dict[str, str]:
    return dict(workspace.action("//pkg:x", "Command").env)


def test_argv_has_a_word_for_each_file(package: FakeWorkspace) -> None:
    package.build(
        HEAD + "srcs = ['*.txt']\ndeps = ['//dep:d']\nargv = ['cat', '$SRCS', '$DEPS', '-o$OUT']\nouts = ['o']\n"
    )

    assert argv(package) == (
        "cat", "targets/pkg/a.txt", "targets/pkg/b.txt", "dep/d/one", "dep/d/many", "-oout/o",
    )  # fmt: skip


def test_shell_has_variables(package: FakeWorkspace) -> None:
    package.build(HEAD + "srcs = ['*.txt']\ndeps = ['//dep:d']\nshell = 'cat $SRCS'\nouts = ['o']\n")

    assert argv(package) == ("/bin/sh", "-euc", "cat $SRCS")
    assert {key: variables(package)[key] for key in ("SRCS", "DEPS", "OUT")} == {
        "SRCS": "targets/pkg/a.txt targets/pkg/b.txt", "DEPS": "dep/d/one dep/d/many", "OUT": "out/o",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outs", "expected"), [("['o']", "out/o"), ("['f/']", "out/f"), ("['a/b/c']", "out/a/b/c"), ("['o', 'f/']", "out")]
)
def test_out_is_the_only_output_or_the_folder_of_several(package: FakeWorkspace, outs: str, expected: str) -> None:
    package.build(HEAD + f"shell = 'x'\nouts = {outs}\n")

    assert variables(package)["OUT"] == expected


def test_argv_sees_no_variables_of_the_shell_s(package: FakeWorkspace) -> None:
    package.build(HEAD + "argv = ['x']\nouts = ['o']\nenv = { A = '1' }\n")

    assert {"SRCS", "DEPS", "OUT"} & variables(package).keys() == set()
    assert variables(package)["A"] == "1"


def test_variables_of_its_own_come_on_top(package: FakeWorkspace) -> None:
    package.build(HEAD + "argv = ['x']\nouts = ['o']\nenv = { TZ = 'CET' }\n")

    assert (variables(package)["TZ"], variables(package)["PYTHONHASHSEED"]) == ("CET", "0")


def test_asks_for_its_inputs_its_root_and_its_outputs(package: FakeWorkspace) -> None:
    package.build(HEAD + "srcs = ['a.txt']\ndeps = ['//dep:d']\nshell = 'x'\nouts = ['o', 'f/']\ntimeout = 7\n")
    action = package.action("//pkg:x", "Command")

    assert action.inputs == (
        ("dep/d/many", Derived("//dep:d#Command", "many/")),
        ("dep/d/one", Derived("//dep:d#Command", "one")),
        ("targets/pkg/a.txt", Source("targets/pkg/a.txt")),
    )
    assert (action.root, action.outputs, action.timeout, action.owner) == (
        Derived("//toolchains:busybox@amd64#Root", "tree/"), ("o", "f/"), 7, Label("pkg", "x"),
    )  # fmt: skip
    assert action.properties == (("arch", "amd64"), ("sandbox", "1"))


def test_hands_on_its_outputs(package: FakeWorkspace) -> None:
    package.build(HEAD + "shell = 'x'\nouts = ['o', 'f/']\n")

    assert package.analyze("//pkg:x").providers[Label("pkg", "x")].files == {
        "o": Derived("//pkg:x#Command", "o"), "f": Derived("//pkg:x#Command", "f/"),
    }  # fmt: skip


@pytest.mark.parametrize("how", ["", "argv = ['x']\nshell = 'x'\n"])
def test_needs_argv_or_shell(package: FakeWorkspace, how: str) -> None:
    package.build(HEAD + how + "outs = ['o']\n")

    assert package.error("//pkg:x", analyze=True) == (
        "targets/pkg/BUILD.toml:1: `//pkg:x` needs `argv` or `shell`, and not both"
    )


@pytest.mark.parametrize("out", ["/o", "../o", "a/../o", "", "/", ".", "./o", "a//b", "o//", "a\\u0000"])
def test_refuses_an_output_that_lies_elsewhere(package: FakeWorkspace, out: str) -> None:
    package.build(HEAD + f'shell = "x"\nouts = ["{out}"]\n')

    assert "cannot be an output: it must lie below the package" in package.error("//pkg:x", analyze=True)


@pytest.mark.parametrize("outs", ["['o', 'o']", "['o', 'o/']", "['f/', 'f/o']", "['f/o', 'f']"])
def test_refuses_outputs_inside_each_other(package: FakeWorkspace, outs: str) -> None:
    package.build(HEAD + f"shell = 'x'\nouts = {outs}\n")

    assert "cannot both be outputs of `//pkg:x`" in package.error("//pkg:x", analyze=True)


def test_refuses_inputs_inside_each_other(package: FakeWorkspace) -> None:
    package.build("[b]\nrule = 'command'\nshell = 'x'\nouts = ['c/']\n", "a")
    package.build("[c]\nrule = 'command'\nshell = 'x'\nouts = ['d']\n", "a/b")
    package.build(HEAD + "shell = 'x'\nouts = ['o']\ndeps = ['//a:b', '//a/b:c']\n")

    assert package.error("//pkg:x", analyze=True).endswith("`a/b/c/d` and `a/b/c` cannot both be inputs of `//pkg:x`")


def test_runs_in_any_environment(package: FakeWorkspace) -> None:
    package.build(HEAD + "shell = 'x'\nouts = ['o']\nenvironment = '//toolchains:python311'\n")

    assert package.action("//pkg:x", "Command").root == Derived("//toolchains:python311@amd64#Root", "tree/")


def test_its_environment_must_be_one(package: FakeWorkspace) -> None:
    package.build(HEAD + "shell = 'x'\nouts = ['o']\nenvironment = '//dep:d'\n")

    assert package.error("//pkg:x", analyze=True).endswith(
        "`//dep:d` gives files, `command` target `//pkg:x` needs an environment"
    )


def test_an_environment_for_another_machine_is_unavailable(package: FakeWorkspace) -> None:
    """A wildcard skips it and says so; named outright it is an error."""
    package.build("[env]\nrule = 'environment'\ndebs = ['x']\nplatforms = ['arm64']\ntags = ['manual']\n", "env")
    package.build(HEAD + "shell = 'x'\nouts = ['o']\nenvironment = '//env:env'\n")

    assert {str(label): fault.text for label, fault in package.analyze("//pkg:all").skipped.items()} == {
        "//pkg:x": "`//pkg:x` runs on `amd64`, `//env:env` has no instance for that"
    }
    assert "Give `//env:env` the platform `amd64`" in package.error("//pkg:x", analyze=True)


def test_an_instance_for_another_machine_is_an_error(package: FakeWorkspace) -> None:
    package.build(HEAD + "shell = 'x'\nouts = ['o']\nenvironment = '//toolchains:busybox@arm64'\n")

    assert "runs on `amd64`, its environment is for another" in package.error("//pkg:x", analyze=True)
