"""The table of what goes together, checked where a platform's environment is analyzed."""

from __future__ import annotations

import pytest

from forge.core.digest import Digest
from forge.core.lock import Lock, Material
from forge.core.lock_text import render
from tests.fakes.workspace import FakeWorkspace

TABLE = """
[[row]]
when = "nvidia-cuda-runtime==13.*"
needs = ["driver>=580"]
source = "NVIDIA"
"""
DEVICE = """
[device]
arch = "amd64"
accelerator = "cuda"
driver = "{}"

[big_llm_trf]
backend = "trf"
base = "python311"
requirements = ["torch"]
"""


@pytest.fixture
def gpu(workspace: FakeWorkspace) -> FakeWorkspace:
    workspace.write("toolchains/compatibility.toml", TABLE)
    cuda = Material("nvidia-cuda-runtime", "13.0.96", "cuda.whl", Digest.of(b"cuda"), "pypi")
    workspace.write("toolchains/locks/big_llm_trf.python.toml", render(Lock("python", "amd64", ("torch",), (cuda,))))
    return workspace


def test_a_driver_that_is_too_old_names_both_sides_and_the_row(gpu: FakeWorkspace) -> None:
    gpu.write("toolchains/big.toml", DEVICE.format("535.86"))

    assert gpu.error("//toolchains:big_llm_trf", analyze=True) == (
        "toolchains/big.toml:7: `nvidia-cuda-runtime` 13.0.96 (locked for `//toolchains:big_llm_trf`) "
        "needs `driver>=580`, `driver` is 535.86 (device `big`, toolchains/big.toml): "
        "toolchains/compatibility.toml, by NVIDIA\n"
        "  hint: Ask for other versions in `requirements`, and run `forge lock`; or correct the device "
        "(//toolchains:big_llm_trf)"
    )


@pytest.mark.parametrize("driver", ["580.65.06", ""])
def test_one_that_suffices_or_is_not_said_is_let_pass(gpu: FakeWorkspace, driver: str) -> None:
    gpu.write("toolchains/big.toml", DEVICE.format(driver))

    assert gpu.analyze("//toolchains:big_llm_trf").skipped == {}


def test_a_build_for_cpus_is_refused_where_there_is_an_accelerator(gpu: FakeWorkspace) -> None:
    gpu.write("toolchains/big.toml", DEVICE.format("580"))
    torch = Material("torch", "2.13.0+cpu", "torch.whl", Digest.of(b"torch"), "pypi")
    gpu.write("toolchains/locks/big_llm_trf.python.toml", render(Lock("python", "amd64", ("torch",), (torch,))))

    said = gpu.error("//toolchains:big_llm_trf", analyze=True)
    assert "[torch] are builds for CPUs, `big` has `cuda` (toolchains/big.toml)" in said
    assert "PIP_FIND_LINKS" in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            TABLE.replace(">=580", "~580"),
            "toolchains/compatibility.toml:2: `driver~580` is no requirement, write such as",
        ),
        (TABLE.replace("needs", "need"), "toolchains/compatibility.toml"),
    ],
)
def test_a_row_that_cannot_be_read_names_its_place(gpu: FakeWorkspace, text: str, expected: str) -> None:
    gpu.write("toolchains/compatibility.toml", text)

    assert expected in gpu.error("//toolchains:busybox")
