"""Devices, backends and environments: one file per device."""

from __future__ import annotations

import shutil

import pytest

from forge.core.errors import LoadError
from forge.core.label import Label
from tests.fakes.workspace import SERVER, FakeWorkspace

ORIN = """
[device]
arch = "arm64"
accelerator = "orin"

[orin_llm_llama]
backend = "llama"
base = "python311"
"""


def test_a_new_device_is_one_new_file_and_no_other_edit(workspace: FakeWorkspace) -> None:
    workspace.write("toolchains/orin.toml", ORIN)
    workspace.build(SERVER.replace('"cpu_llm_trf"', '"orin_*"'))
    workspace.write("targets/pkg/handler.py")
    platform = workspace.target("//pkg:server@orin_llm_llama").platform

    assert platform is not None
    assert (platform.arch, platform.device, platform.accelerator, platform.backend) == (
        "arm64",
        "orin",
        "orin",
        "llama",
    )


def test_a_device_s_environment_is_a_target(workspace: FakeWorkspace) -> None:
    workspace.write("toolchains/orin.toml", ORIN)

    assert workspace.requested("//toolchains:orin_llm_llama") == ["//toolchains:orin_llm_llama"]


def test_a_platform_says_where_its_packages_come_from_and_which_to_leave_out(workspace: FakeWorkspace) -> None:
    own = 'requirements = ["vllm"]\nexclude_wheels = ["torchvision"]\nsources = { vllm = "jetson-ai-lab" }\n'
    workspace.write("toolchains/orin.toml", ORIN + own)
    (request,) = workspace.target("//toolchains:orin_llm_llama").lock_requests

    assert request.requested == ("-torchvision", "vllm", "vllm from jetson-ai-lab")


def test_a_platform_may_have_its_base_in_any_package(workspace: FakeWorkspace) -> None:
    workspace.write("toolchains/orin.toml", ORIN.replace('"python311"', '"//pkg:base"'))
    workspace.build("[base]\nrule = 'environment'\ndebs = ['x']\nplatforms = ['arm64']\n")

    assert "//pkg:base@arm64" in map(str, workspace.target("//toolchains:orin_llm_llama").dependencies())


def test_backends_declare_their_parameters(workspace: FakeWorkspace) -> None:
    backend = workspace.toolchains.toolchains["cpu_llm_trf"].backend

    assert backend is not None
    assert [each.name for each in backend.parameters] == ["batch_size", "temperature", "do_sample", "precision"]


def test_a_platform_need_not_serve(workspace: FakeWorkspace) -> None:
    assert workspace.toolchains.toolchains["client"].backend is None


def test_the_folder_by_another_name_is_read_once(workspace: FakeWorkspace) -> None:
    (workspace.root / "toolchains").symlink_to("devices")

    assert "cpu_llm_trf" in workspace.toolchains.platforms


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        (
            "toolchains/cpu.toml", "[device]\narch = 'amd64'\n",
            "devices/cpu.toml: Device `cpu` is already declared in toolchains/cpu.toml\n  hint: Give it another name",
        ),
        (
            "toolchains/a.toml", "[device]\narch = 'amd64'\n[cpu_llm_trf]\nbase = 'python311'\n",
            "devices/cpu.toml:5: Platform `cpu_llm_trf` is already declared in toolchains/a.toml",
        ),
        (
            "toolchains/a.toml", "[device]\narch = 'amd64'\n[arm64]\nbase = 'python311'\n",
            "toolchains/a.toml:3: Platform `arm64` is already declared in forge itself",
        ),
        (
            "toolchains/a.toml", "[device]\narch = 'amd64'\n[busybox]\nbase = 'python311'\n",
            "toolchains/a.toml:3: Environment `busybox` is already declared in devices/environments.toml\n"
            "  hint: Give it another name",
        ),
        (
            "toolchains/backends.toml", "[trf]\nmodule = 'x'\nformats = ['y']\n",
            "devices/backends.toml:2: Backend `trf` is already declared in toolchains/backends.toml\n"
            "  hint: Give it another name",
        ),
        (
            "toolchains/environments.toml", "[busybox]\ndebs = ['x']\n",
            "devices/environments.toml:2: Environment `busybox` is already declared in toolchains/environments.toml\n"
            "  hint: Give it another name",
        ),
        ("toolchains/a.toml", "", "toolchains/a.toml: `device` needs the attribute `arch`"),
        ("toolchains/a.toml", "device = 3\n", "toolchains/a.toml:1: `device` must be a table"),
        (
            "toolchains/a.toml", "[device]\narch = 'riscv'\n",
            "toolchains/a.toml:2: `arch` of `device`: input should be 'amd64' or 'arm64'",
        ),
        (
            "toolchains/a.toml", "[device]\narch = 'amd64'\n[p]\nbase = 'x'\nbackend = 'tfr'\n",
            "toolchains/a.toml:5: Unknown backend `tfr` of platform `p`\n  hint: Did you mean `trf`?",
        ),
        (
            "toolchains/a.toml", "[device]\narch = 'amd64'\n[p]\nbase = '//'\n",
            "toolchains/a.toml:4: `//` is not a label\n"
            "  hint: Write `//package:name`, `//package` for `//package:package`, or `:name` in its own package",
        ),
        (
            "toolchains/a.toml", "[device]\narch = 'amd64'\n['p q']\nbase = 'x'\n",
            "toolchains/a.toml:3: `p q` cannot be the name of a platform",
        ),
        (
            "toolchains/a.toml", "[device]\narch = 'amd64'\n[p]\nbsae = 'x'\n",
            "toolchains/a.toml:3: `p` needs the attribute `base`\n"
            "toolchains/a.toml:4: Unknown attribute `bsae` of `p`\n  hint: Did you mean `base`?",
        ),
        ("toolchains/backends.toml", "x = 3\n", "toolchains/backends.toml:1: `x` must be a table"),
        (
            "toolchains/backends.toml",
            "[x]\nmodule = 'x'\nformats = []\n[x.params.n]\ntype = 'int'\ndefault = 1\nmin = 1\n",
            "toolchains/backends.toml:3: `formats` of `x`: must not be empty\n"
            "toolchains/backends.toml:7: Unknown attribute `min` of `x`",
        ),
        (
            "toolchains/backends.toml",
            "[x]\nmodule = 'x'\nformats = ['y']\n[x.params]\nn = { type = 'int', default = 'a' }\n",
            "toolchains/backends.toml:5: Default of `n` must be a whole number, not `a`",
        ),
    ],
)  # fmt: skip
def test_says_what_is_wrong_with_a_toolchain(workspace: FakeWorkspace, path: str, text: str, expected: str) -> None:
    workspace.write(path, text)

    with pytest.raises(LoadError) as caught:
        _ = workspace.toolchains

    assert str(caught.value) == expected


def test_an_environment_must_be_a_table(workspace: FakeWorkspace) -> None:
    workspace.write("toolchains/environments.toml", "x = 3\n")

    assert workspace.error("//toolchains:x").startswith("toolchains/environments.toml:1: `x` must be a table")


def test_no_folder_is_no_toolchain(workspace: FakeWorkspace) -> None:
    shutil.rmtree(workspace.root / "devices")

    assert set(workspace.toolchains.platforms) == {"amd64", "arm64"}


def compiler_of(workspace: FakeWorkspace) -> object:
    return getattr(workspace.target("//toolchains:orin_llm_llama").attrs, "byte_code", "?")


def test_modules_are_compiled_in_a_base_that_is_there_for_both_architectures(workspace: FakeWorkspace) -> None:
    workspace.write("toolchains/orin.toml", ORIN)

    assert compiler_of(workspace) == Label("toolchains", "python311")


@pytest.mark.parametrize(
    "table", ["debs = ['x']\nplatforms = ['arm64']", "image = 'a.io/b:1'\nplatforms = ['amd64', 'arm64']"]
)
def test_modules_are_not_compiled_where_the_base_may_not_run_here(workspace: FakeWorkspace, table: str) -> None:
    workspace.write("toolchains/environments.toml", f"[jetson]\n{table}\n")
    workspace.write("toolchains/orin.toml", ORIN.replace('"python311"', '"jetson"'))

    assert compiler_of(workspace) is None
