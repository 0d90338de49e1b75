from __future__ import annotations

import json

import pytest

from forge.core.artifact import Derived
from forge.core.base_image import BaseImage, ImageBlob
from forge.core.digest import Digest, Hash
from forge.core.image_name import ImageName
from forge.core.label import Label
from forge.core.lock import Lock, Material, MissingMaterial
from forge.core.lock_text import render
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
    assert (info.arch, info.tree) == ("amd64", Derived("//toolchains:cpu_llm_trf#Root.3", "tree/"))
    assert [(lock.kind, [each.name for each in lock.materials]) for lock in info.locks] == [
        ("deb", ["python3.11"]),
        ("python", ["transformers"]),
    ]


@pytest.mark.parametrize(("build", "name"), [("", "native-2.0"), ("build = '1cuda'\n", "native-2.0-1cuda")])
def test_a_wheel_that_was_built_is_known_with_its_archive(workspace: FakeWorkspace, build: str, name: str) -> None:
    workspace.build(
        f"{ENVIRONMENT}\n[native]\nrule = 'wheel'\nsdist = 'native==2.0'\nenvironment = ':env'\n"
        f"tag = 'py3-none-linux_x86_64'\n{build}\n[both]\nrule = 'environment'\nbase = ':env'\nbuilt = [':native']\n"
        "platforms = ['amd64']\n"
    )
    workspace.lock("targets/pkg/locks/env.amd64.deb.toml", "deb", "amd64", "bash", "dash", "-perl")
    sdist = Material("native", "2.0", "native-2.0.tar.gz", Digest.of(b"native"), "there")
    workspace.write("targets/pkg/locks/native.sdist.toml", render(Lock("sdist", "amd64", ("native==2.0",), (sdist,))))
    info = workspace.analyze("//pkg:both").providers[Label("pkg", "both@amd64")]

    assert isinstance(info, EnvironmentInfo)
    assert [(wheel.name, wheel.sdist) for wheel in info.built] == [(f"{name}-py3-none-linux_x86_64.whl", sdist)]
    assert [lock.kind for lock in info.locks] == ["deb"]


def test_an_environment_without_packages_is_its_base(workspace: FakeWorkspace) -> None:
    workspace.build(f"{ENVIRONMENT}\n[same]\nrule = 'environment'\nbase = ':env'\nplatforms = ['amd64']\n")
    workspace.lock("targets/pkg/locks/env.amd64.deb.toml", "deb", "amd64", "bash", "dash", "-perl")
    info = workspace.analyze("//pkg:same").providers[Label("pkg", "same@amd64")]

    assert isinstance(info, EnvironmentInfo)
    assert (info.tree, info.compiler) == (Derived("//pkg:env@amd64#Root", "tree/"), None)


def test_modules_are_compiled_by_the_base_that_runs_here(workspace: FakeWorkspace) -> None:
    workspace.write("devices/arm.toml", "[device]\narch = 'arm64'\n[arm_llm_llama]\nbase = 'python311'\n")
    graph = workspace.analyze("//toolchains:arm_llm_llama")
    info = graph.providers[Label("toolchains", "arm_llm_llama")]
    compiled = graph.actions["//toolchains:arm_llm_llama#Compile"]

    assert isinstance(info, EnvironmentInfo)
    assert info.tree == Derived("//toolchains:arm_llm_llama#Root", "tree/")
    assert compiled.root == Derived("//toolchains:python311@amd64#Root", "tree/")
    assert dict(compiled.inputs)["tree"] == Derived("//toolchains:python311@arm64#Root", "tree/")


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


VENDOR = "[vendor]\nrule = 'environment'\nplatforms = ['amd64']\nimage = 'vendor.test/acme/base:1'\npython = '3.10'\n"
ABOVE = "\n[above]\nrule = 'environment'\nplatforms = ['amd64']\nbase = ':vendor'\nwheels = ['numpy']\n"
INDEX, MANIFEST, CONFIG, LAYER = map(Digest.of, (b"index", b"manifest", b"config", b"layer"))
NAME = ImageName("vendor.test", "acme/base", "1")


def image_lock(workspace: FakeWorkspace, image: BaseImage) -> None:
    missing = () if image.digest else (MissingMaterial(NAME.tagged, NAME.tagged, NAME.registry),)
    lock = Lock("image", "amd64", (str(NAME),), (), image=image, missing=missing)
    workspace.write("targets/pkg/locks/vendor.amd64.image.toml", render(lock))


def test_an_image_is_pulled_below_its_digest(workspace: FakeWorkspace) -> None:
    workspace.build(VENDOR)
    image_lock(workspace, BaseImage(NAME, Hash(INDEX.hash)))
    graph = workspace.analyze("//pkg:vendor")
    info = graph.providers[Label("pkg", "vendor@amd64")]

    assert isinstance(info, EnvironmentInfo) and info.base is not None
    assert [action.tool for action in graph.actions.values()] == ["fetch", "pull", "flatten", "root"]
    assert (info.layers, info.base.layout) == ((), Derived("//pkg:vendor@amd64#Pull", "layout/"))
    assert (info.tree, info.python, info.site) == (info.base.root, "3.10", "dist-packages")


def test_what_the_lock_knows_is_fetched_at_once(workspace: FakeWorkspace) -> None:
    workspace.build(VENDOR)
    parts = ImageBlob("m", MANIFEST), ImageBlob("c", CONFIG), (ImageBlob("l", LAYER),)
    image_lock(workspace, BaseImage(NAME, Hash(INDEX.hash), *parts))
    actions = workspace.analyze("//pkg:vendor").actions
    fixed = [action.fixed_output for action in actions.values() if action.is_fixed_output]

    assert fixed == [Hash(INDEX.hash), MANIFEST, CONFIG, LAYER]
    assert all("://" not in action.argv[-1] for action in actions.values())


def test_an_image_that_is_left_out_of_its_lock_says_what_to_run(workspace: FakeWorkspace) -> None:
    workspace.build(VENDOR)
    image_lock(workspace, BaseImage(NAME))
    message = workspace.error("//pkg:vendor", analyze=True)

    assert "lacks `vendor.test/acme/base:1` of source `vendor.test`" in message
    assert "Run `forge lock //pkg:vendor`" in message


def test_wheels_go_where_the_base_s_python_looks(workspace: FakeWorkspace) -> None:
    workspace.build(f"{VENDOR}site = 'site-packages'\n{ABOVE}python = '3.10'\nsite = 'site-packages'\n")
    image_lock(workspace, BaseImage(NAME, Hash(INDEX.hash)))
    workspace.lock("targets/pkg/locks/above.amd64.python.toml", "python", "amd64", "numpy")
    graph = workspace.analyze("//pkg:above")
    info = graph.providers[Label("pkg", "above@amd64")]
    unpack = graph.actions["//pkg:above@amd64#Unpack"]

    assert isinstance(info, EnvironmentInfo) and info.base is not None
    assert json.loads(unpack.argv[-1])["site"] == "site-packages"
    assert [what for what, _ in info.layers] == ["Python packages"]
    assert dict(graph.actions["//pkg:above@amd64#Root.1"].inputs)["0000"] == info.base.root


def test_wheels_for_another_python_than_the_base_s_are_refused(workspace: FakeWorkspace) -> None:
    workspace.build(VENDOR + ABOVE)
    image_lock(workspace, BaseImage(NAME, Hash(INDEX.hash)))
    workspace.lock("targets/pkg/locks/above.amd64.python.toml", "python", "amd64", "numpy")

    assert "is for python 3.11, its base `//pkg:vendor` has 3.10" in workspace.error("//pkg:above", analyze=True)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("debs = ['bash']\n", "it takes neither `base` nor `debs`"),
        (f"digest = 'sha256:{'0' * 64}'\n", "name two digests"),
    ],
)
def test_an_image_that_contradicts_itself_is_refused(workspace: FakeWorkspace, declared: str, expected: str) -> None:
    workspace.build(VENDOR.replace("base:1", f"base:1@sha256:{'1' * 64}") + declared)

    assert expected in workspace.error("//pkg:vendor")


def test_a_digest_without_an_image_is_refused(workspace: FakeWorkspace) -> None:
    workspace.build(f"{ENVIRONMENT}digest = 'sha256:{'0' * 64}'\n")

    assert "`digest` is for `image`" in workspace.error("//pkg:env")
