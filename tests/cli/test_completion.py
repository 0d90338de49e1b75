"""Completion as shells ask for it: by variables of the environment, one process a question."""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from forge.cli.app import COMMANDS
from forge.cli.completion import SHELLS
from forge.cli.label_completion import complete_labels
from forge.cli.label_scan import LabelScan
from forge.core.label import parse_patterns
from tests.e2e.program import REPOSITORY, Forge
from tests.fakes.workspace import SERVER, FakeWorkspace

BUILD = """\
[x]
rule = "command"
shell = "echo 1 > $OUT"
outs = ["x"]

[images]
rule = "image"
apps = [":server"]
name = "{platform}"

[server]
rule = "compose"
handler = "handler.py"
platforms = ["cpu_*", "!*_llama", "!*_vllm"]
"""


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    """A workspace with packages //a, //a/b and //c."""
    for package in ("a", "a/b", "c"):
        (tmp_path / "targets" / package).mkdir(parents=True, exist_ok=True)
        (tmp_path / "targets" / package / "BUILD.toml").write_text(BUILD)
    (tmp_path / "WORKSPACE.toml").write_text('[workspace]\nname = "demo"\n\n[build.ci]\n[build.clean]\n')
    return Forge(REPOSITORY, tmp_path)


def ask(forge: Forge, line: str, shell: str = "bash") -> list[str]:
    """Press TAB at the end of a line; the values."""
    result = forge(_FORGE_COMPLETE=f"{shell}_complete", COMP_LINE=line)

    assert "" == result.stderr
    return [each.partition(",")[2] for each in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("forge bu", ["build"]),
        ("forge help do", ["doctor"]),
        ("forge build ", ["//...", "//a/", "//a:", "//c:"]),
        ("forge build /", ["//...", "//a/", "//a:", "//c:"]),
        ("forge build //a", ["//a/", "//a:"]),
        ("forge build //a/", ["//a/...", "//a/b:"]),
        ("forge build //a/.", ["//a/..."]),
        ("forge build //to", ["//toolchains:"]),
        ("forge build //c:", ["//c:all", "//c:cpu_llm_trf", "//c:cpu_onnx", "//c:images", "//c:server",
                              "//c:server@cpu_llm_trf", "//c:server@cpu_onnx", "//c:x"]),
        ("forge build -k //c:x //a/b:cpu_o", ["//a/b:cpu_onnx"]),
        ("forge build -- //... -//c:im", ["-//c:images"]),
        ("forge run //c:server@", ["//c:server@cpu_llm_trf", "//c:server@cpu_onnx"]),
        ("forge build //toolchains:busybox@", ["//toolchains:busybox@amd64", "//toolchains:busybox@arm64"]),
        ("forge build --override //c:im", ["//c:images="]),
        ("forge build --override //c:images=//a:s", ["//c:images=//a:server", "//c:images=//a:server@cpu_llm_trf",
                                                     "//c:images=//a:server@cpu_onnx"]),
        ("forge build --override=//c:images=//a/b:x", ["--override=//c:images=//a/b:x"]),
        ("forge build --override //c:a", []),
        ("forge build --config ", ["ci", "clean"]),
        ("forge build --config=ci", ["--config=ci"]),
        ("forge build --ov", ["--override"]),
        ("forge build --color=n", ["--color=no"]),
        ("forge info so", ["sources"]),
        ("forge image ex", ["export"]),
        ("forge image export --format=o", ["--format=oci"]),
        ("forge completion z", ["zsh"]),
        ("forge build //nowhere:", []),
        ("forge nothing ", []),
        ("forge build 'unclosed", []),
        ("cd x; forge", []),
    ],
)  # fmt: skip
def test_a_word_goes_on(forge: Forge, line: str, expected: list[str]) -> None:
    assert expected == ask(forge, line)


def test_a_label_may_be_of_the_folder_that_one_works_in(forge: Forge) -> None:
    inside = Forge(forge.checkout, forge.cwd / "targets/a")

    assert [":cpu_llm_trf", ":cpu_onnx"] == ask(inside, "forge build :cpu")
    assert ["server", "server@cpu_llm_trf", "server@cpu_onnx"] == ask(inside, "forge build ser")
    assert ["b:x"] == ask(inside, "forge build b:x")


def test_zsh_and_fish_ask_in_click_s_own_way(forge: Forge) -> None:
    line = "forge build //c:cpu_o"
    zsh = forge(COMP_WORDS=line, COMP_CWORD="2", _FORGE_COMPLETE="zsh_complete").stdout.splitlines()
    fish = forge(COMP_WORDS=line, COMP_CWORD="//c:cpu_o", _FORGE_COMPLETE="fish_complete").stdout.splitlines()

    assert ["plain", "//c:cpu_onnx", "_"] == zsh
    assert ["//c:cpu_onnx"] == [line.split(",")[1].split("\t")[0] for line in fish]


@pytest.mark.parametrize("broken", ["[x\n", '[y]\nrule = 1\nplatforms = "*"\n[z]\nname = [\n', "\0\xff", "[[x]]\n"])
def test_a_broken_file_costs_its_own_labels_alone(forge: Forge, broken: str) -> None:
    (forge.cwd / "targets/a/BUILD.toml").write_text(f'[whole]\nrule = "command"\n{broken}')

    assert "//a:whole" in ask(forge, "forge build //a:wh")
    assert ["//c:x"] == ask(forge, "forge build //c:x")


def test_without_a_workspace_there_are_commands_and_options_and_no_errors(tmp_path: Path) -> None:
    forge = Forge(REPOSITORY, tmp_path)

    assert ["build"] == ask(forge, "forge bui")
    assert ["--jobs"] == ask(forge, "forge build --jo")
    assert [] == ask(forge, "forge build //")
    assert [] == ask(forge, "forge build --config ")


@pytest.mark.parametrize("asked", ["tcsh_complete", "bash", "bash_nothing", ""])
def test_what_is_no_question_gets_no_answer(forge: Forge, asked: str) -> None:
    result = forge("version", _FORGE_COMPLETE=asked)

    assert ("", "") == (result.stdout, result.stderr)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_are_those_of_the_command_itself(command: str, tmp_path: Path) -> None:
    """Stand-ins take the place of what commands import: an option that one of them hides would be missing."""
    real = importlib.import_module(f"forge.cli.command.{command}").command
    with click.Context(real, info_name=command) as context:
        options = {name for each in real.get_params(context) for name in (*each.opts, *each.secondary_opts)}

    assert {each for each in options if each.startswith("--")} == set(
        ask(Forge(REPOSITORY, tmp_path), f"forge {command} --")
    )


def test_an_answer_takes_little() -> None:
    """Against what has to be imported for it at least: one of the libraries that it avoids takes twice as long."""

    def seconds(start: Callable[[], object]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def answer(line: str) -> float:
        forge = Forge(REPOSITORY, REPOSITORY)
        return seconds(lambda: forge(_FORGE_COMPLETE="bash_complete", COMP_LINE=line))

    def library() -> float:
        return seconds(lambda: subprocess.run([sys.executable, "-c", "import click"], check=True))

    # The least of three: what others do on this machine meanwhile is not to count.
    least = min(library() for _ in range(3))
    lines = ["forge build //tiny_gpt2:", "forge build --", "forge "]

    assert [] == [line for line in lines if min(answer(line) for _ in range(3)) > 3 * least]


def test_the_scan_finds_what_the_loader_does(workspace: FakeWorkspace, tmp_path: Path) -> None:
    workspace.write("WORKSPACE.toml", '[workspace]\nname = "x"\ntoolchains = "devices"\n')
    workspace.write("targets/pkg/handler.py")
    workspace.write("targets/pkg/cases.json", "[]")
    images = '[images]\nrule = "image"\napps = [":server"]\nname = "{platform}"\n'
    test = '[smoke]\nrule = "test"\nimage = ":images"\ncases = "cases.json"\n'
    workspace.build(f"{SERVER}\n{images}\n{test}")
    graph = workspace.loader().load(parse_patterns(["//..."]), manual=True)
    labels = {*graph.requested, *graph.generators}
    # Rules of forge's own, devices of the fake's: no device of both has the same name.
    (tmp_path / "builtin").mkdir()
    (tmp_path / "builtin/rules").symlink_to(REPOSITORY / "rules")
    scan = LabelScan(workspace.root, tmp_path / "builtin")

    assert ["pkg", "toolchains"] == scan.packages
    assert sorted(each.name for each in labels if each.package == "pkg") == scan.targets("pkg")


def test_the_scan_knows_every_label_of_this_repository() -> None:
    forge = Forge(REPOSITORY, REPOSITORY)
    query = forge("query", "//... + //toolchains:all").stdout.split()
    scan = LabelScan(REPOSITORY, REPOSITORY)
    found = {f"//{package}:{name}" for package in scan.packages for name in scan.targets(package)}

    assert [] == sorted(set(query) - found)


def test_a_cycle_of_targets_ends(tmp_path: Path) -> None:
    (tmp_path / "targets/a").mkdir(parents=True)
    (tmp_path / "WORKSPACE.toml").write_text("")
    (tmp_path / "targets/a/BUILD.toml").write_text(
        '[x]\nrule = "image"\napps = [":y"]\n[y]\nrule = "image"\napps = [":x", "//a:y", "//no:z", 1]\n'
    )
    scan = LabelScan(tmp_path, REPOSITORY)

    assert [("//a:x", True), ("//a:y", True)] == complete_labels(scan, tmp_path, "//a:", patterns=False)


BASH = """\
source "$1"
COMP_WORDBREAKS=$' \\t\\n"\\'@><=;|&(:'
compopt() {{ echo "compopt $*"; }}
COMP_LINE={line!r}
COMP_POINT=${{#COMP_LINE}}
_forge_complete {program!r} "" ""
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("forge buil", ["build"]),
        ("forge build //c", ["compopt -o nospace", "//c:"]),
        ("forge build //c:cpu", ["cpu_llm_trf", "cpu_onnx"]),
        ("forge build //c:", ["all", "cpu_llm_trf", "cpu_onnx", "images", "server", "server@cpu_llm_trf",
                              "server@cpu_onnx", "x"]),
        ("forge build //c:server@cpu_o", ["@cpu_onnx"]),
        ("forge build --override=//c:images=//a:x", ["x"]),
        ("forge build --color=n", ["no"]),
        ("forge build --profile ", ["compopt -o filenames -o default", ""]),
    ],
)  # fmt: skip
def test_bash_puts_in_what_follows_the_last_break(forge: Forge, line: str, expected: list[str], tmp_path: Path) -> None:
    program = tmp_path / "forge"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{REPOSITORY}" exec "{sys.executable}" -m forge "$@"\n')
    program.chmod(0o755)
    script = tmp_path / "script.bash"
    script.write_text(forge("completion", "bash").stdout)
    done = subprocess.run(
        ["bash", "-c", BASH.format(line=line, program=str(program)), "bash", str(script)],
        cwd=forge.cwd, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert expected == done.stdout.split("\n")[:-1]
    assert "" == done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_itself_can_read_its_script(shell: str, forge: Forge) -> None:
    program = shutil.which(shell) or pytest.skip(f"no {shell} here")
    script = forge("completion", shell).stdout
    done = subprocess.run([program, "-n"], input=script, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)


def test_the_scripts_belong_to_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())

    assert "forge" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(SHELLS) == sorted(name.rpartition(".")[2] for name in os.listdir(REPOSITORY / "forge/cli/shell"))
