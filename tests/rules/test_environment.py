from __future__ import annotations

import json

import pytest

from forge.core.artifact import Derived
from forge.core.digest import Digest
from forge.core.label import Label
from forge.core.lock import Lock, Material, MissingMaterial, render
from forge.core.provider import EnvironmentInfo
from tests.fakes.workspace import FakeWorkspace

ENVIRONMENT = "[env]\nrule = 'environment'\ndebs = ['dash', 'bash']\nexclude = ['perl']\nplatforms = ['amd64']\n"


def test_fetches_unpacks_and_merges(workspace: FakeWorkspace) -> None:
    workspace.build(ENVIRONMENT)
    workspace.lock("targets/pkg/locks/env.amd64.deb.toml", "deb", "amd64", "bash", "dash", "-perl")
    graph = workspace.analyze("//pkg:env")
    fetches = [action for action in graph.actions.values() if action.is_fixed_output]
    root = graph.actions["//pkg:env@amd64#Root"]

    assert [action.tool for action in graph.actions.values()] == ["fetch", "unpack"] * 3 + ["root"]
    assert [action.outputs for action in fetches] == [("-perl-1.deb",), ("bash-1.deb",), ("dash-1.deb",)]
    assert [path for path, _ in root.inputs] == ["0000", "0001", "0002"]
    assert json.loads(root.argv[-1])["conflicts"] == "refuse"


def test_a_platform_s_environment_is_its_base_and_its_wheels(workspace: FakeWorkspace) -> None:
    graph = workspace.analyze("//toolchains:cpu_llm_trf")
    info = graph.providers[Label("toolchains", "cpu_llm_trf")]

    assert isinstance(info, EnvironmentInfo)
    assert [what for what, _ in info.layers] == ["Debian packages", "Python packages"]
    assert (info.arch, info.tree) == ("amd64", Derived("//toolchains:cpu_llm_trf#Root.1", "tree/"))
    assert [(lock.kind, [each.name for each in lock.materials]) for lock in info.locks] == [
        ("deb", ["python3.11"]),
        ("python", ["transformers"]),
    ]


def test_a_wheel_that_was_built_is_known_with_its_archive(workspace: FakeWorkspace) -> None:
    workspace.build(
        f"{ENVIRONMENT}\n[native]\nrule = 'wheel'\nsdist = 'native==2.0'\nenvironment = ':env'\n"
        "tag = 'py3-none-linux_x86_64'\n\n[both]\nrule = 'environment'\nbase = ':env'\nbuilt = [':native']\n"
        "platforms = ['amd64']\n"
    )
    workspace.lock("targets/pkg/locks/env.amd64.deb.toml", "deb", "amd64", "bash", "dash", "-perl")
    sdist = Material("native", "2.0", "native-2.0.tar.gz", Digest.of(b"native"), "there")
    workspace.write("targets/pkg/locks/native.sdist.toml", render(Lock("sdist", "amd64", ("native==2.0",), (sdist,))))
    info = workspace.analyze("//pkg:both").providers[Label("pkg", "both@amd64")]

    assert isinstance(info, EnvironmentInfo)
    assert [(wheel.name, wheel.sdist) for wheel in info.built] == [("native-2.0-py3-none-linux_x86_64.whl", sdist)]
    assert [lock.kind for lock in info.locks] == ["deb"]


def test_an_environment_without_packages_is_its_base(workspace: FakeWorkspace) -> None:
    info = workspace.analyze("//toolchains:cpu_llm_llama").providers[Label("toolchains", "cpu_llm_llama")]

    assert isinstance(info, EnvironmentInfo)
    assert info.tree == Derived("//toolchains:python311@amd64#Root", "tree/")


def test_two_environments_share_what_they_fetch(workspace: FakeWorkspace) -> None:
    workspace.lock("devices/locks/gpu_llm_trf.python.toml", "python", "amd64", "transformers")
    graph = workspace.analyze("//toolchains:cpu_llm_trf", "//toolchains:gpu_llm_trf")

    assert [action.outputs for action in graph.actions.values() if action.tool == "fetch"] == [
        ("python3.11-1.deb",),
        ("transformers-1.whl",),
    ]


@pytest.mark.parametrize(
    ("requested", "arch", "expected"),
    [
        (None, "amd64", "`//pkg:env@amd64` is not locked: no `env.amd64.deb.toml`"),
        (["bash", "dash"], "amd64", "The lock `env.amd64.deb.toml` of `//pkg:env@amd64` is stale"),
        (["bash", "dash", "-perl"], "arm64", "The lock `env.amd64.deb.toml` of `//pkg:env@amd64` is stale"),
    ],
    ids=["none", "stale", "other architecture"],
)
def test_what_is_not_locked_is_unavailable(
    workspace: FakeWorkspace, requested: list[str] | None, arch: str, expected: str
) -> None:
    workspace.build(ENVIRONMENT)
    if requested:
        workspace.lock("targets/pkg/locks/env.amd64.deb.toml", "deb", arch, *requested)

    assert [fault.text for fault in workspace.analyze("//pkg:all").skipped.values()] == [expected]
    assert workspace.error("//pkg:env", analyze=True) == (
        f"targets/pkg/BUILD.toml:1: {expected}\n  hint: Run `forge lock //pkg:env`"
    )


def test_a_lock_that_lacks_a_material_is_unavailable_and_says_what_to_run(workspace: FakeWorkspace) -> None:
    table = '[env]\nrule = "environment"\nwheels = ["torch==2"]\nplatforms = ["amd64"]\nsources = { torch = "far" }\n'
    workspace.build(table)
    missing = (MissingMaterial("torch", "torch==2", "far"),)
    lock = Lock("python", "amd64", ("torch from far", "torch==2"), (), missing=missing)
    workspace.write("targets/pkg/locks/env.amd64.python.toml", render(lock))
    expected = "The lock `env.amd64.python.toml` of `//pkg:env@amd64` lacks `torch==2` of source `far`"

    assert [fault.text for fault in workspace.analyze("//pkg:all").skipped.values()] == [expected]
    assert workspace.error("//pkg:env", analyze=True) == (
        f"targets/pkg/BUILD.toml:1: {expected}\n  hint: Run `forge lock //pkg:env` where that can be reached; "
        '`"far" = "https://…"` in `[sources]` of WORKSPACE.toml says where it is'
    )


def test_what_is_cut_and_pinned_is_asked_for(workspace: FakeWorkspace) -> None:
    workspace.build(
        "[env]\nrule = 'environment'\nwheels = ['x']\nexclude_wheels = ['y']\nplatforms = ['arm64']\n"
        "sources = { x = 'far', a = 'near' }\n"
    )
    (request,) = workspace.target("//pkg:env@arm64").lock_requests

    assert request.requested == ("-y", "a from near", "x", "x from far")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[env]\nrule = 'environment'\ndebs = ['x']\n", "`//pkg:env` needs `platforms`"),
        ("[env]\nrule = 'environment'\nplatforms = ['amd64']\n", "`//pkg:env@amd64` is empty"),
    ],
)
def test_must_be_something_for_some_platform(workspace: FakeWorkspace, text: str, expected: str) -> None:
    workspace.build(text)

    assert workspace.error("//pkg:env", analyze=True).startswith(f"targets/pkg/BUILD.toml:1: {expected}")


def test_its_base_must_be_an_environment(workspace: FakeWorkspace) -> None:
    command = "[c]\nrule = 'command'\nshell = 'x'\nouts = ['o']\n"
    workspace.build("[env]\nrule = 'environment'\nbase = ':c'\nplatforms = ['amd64']\n" + command)

    assert "`//pkg:c` gives files, `environment` target `//pkg:env@amd64` needs an environment" in workspace.error(
        "//pkg:env", analyze=True
    )
