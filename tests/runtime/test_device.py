"""Which accelerator a backend is given."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from typing import Any

import pytest

from forge_runtime import LoadError
from forge_runtime.config import Params
from forge_runtime.device import check_accelerator, device_memories, number_devices, show_only

VISIBLE = "CUDA_VISIBLE_DEVICES"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    yield
    os.environ.clear()
    os.environ.update(before)


class Driver:
    """libcuda, with GPUs of these sizes."""

    def __init__(self, *sizes: int, status: int = 0) -> None:
        self.sizes = sizes
        self.status = status

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.sizes)
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: ctypes.c_int) -> int:  # noqa: N802
        size._obj.value = self.sizes[device.value]
        return 0


def test_the_driver_tells_the_memory_of_each_gpu() -> None:
    assert (8 * 2**30, 80 * 2**30) == device_memories(Driver(8 * 2**30, 80 * 2**30))


def test_a_driver_that_does_not_start_shows_none() -> None:
    assert () == device_memories(Driver(1, status=100))


def test_gpus_are_numbered_as_nvidia_smi_does_unless_the_operator_says_otherwise() -> None:
    number_devices()
    assert "PCI_BUS_ID" == os.environ["CUDA_DEVICE_ORDER"]

    os.environ["CUDA_DEVICE_ORDER"] = "FASTEST_FIRST"
    number_devices()
    assert "FASTEST_FIRST" == os.environ["CUDA_DEVICE_ORDER"]


@pytest.mark.parametrize(
    ("visible", "index", "expected"),
    [(None, 0, "0"), (None, 2, "2"), ("3,5", 0, "3"), ("3, 5", 1, "5"), ("GPU-a,GPU-b", 1, "GPU-b"), ("", 0, "")],
)
def test_one_of_the_visible_gpus_is_shown(visible: str | None, index: int, expected: str) -> None:
    if visible is not None:
        os.environ[VISIBLE] = visible

    show_only(index)

    assert expected == os.environ[VISIBLE]


@pytest.mark.parametrize("visible", ["3,5", ""])
def test_a_gpu_that_is_not_shown_is_named(visible: str) -> None:
    os.environ[VISIBLE] = visible

    with pytest.raises(LoadError, match=rf"No accelerator `2`, {VISIBLE} shows \[{visible.replace(',', ', ')}\]"):
        show_only(2)


def test_without_an_accelerator_the_defaults_run_on_the_cpu() -> None:
    assert check_accelerator(Params(), []) is False


def test_an_accelerator_is_found_by_its_index() -> None:
    assert check_accelerator(Params(device_index=1, gpu_memory_share=0.5), ["a", "b"]) is True


@pytest.mark.parametrize(
    ("params", "found", "expected"),
    [
        (Params(device_index=1), [], r"params.device_index: No accelerator `1`, this process sees \[none\]"),
        (Params(device_index=2), ["H200", "L4"], r"`2`, this process sees \[0: H200, 1: L4\]"),
        (Params(gpu_memory_share=0.5), [], "params.gpu_memory_share: .* no accelerator"),
    ],
    ids=["none", "beyond", "share"],
)
def test_what_is_not_there_is_named(params: Params, found: list[str], expected: str) -> None:
    with pytest.raises(LoadError, match=expected):
        check_accelerator(params, found)
