"""Which accelerator a backend runs on, and how much memory that has."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from forge_runtime.config import Params
from forge_runtime.error import LoadError

if TYPE_CHECKING:
    import torch

__all__ = ["check_accelerator", "device_memories", "number_devices", "show_only", "torch_device"]

ORDER: Final = "CUDA_DEVICE_ORDER"
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
DRIVER: Final = "libcuda.so.1"


def number_devices() -> None:
    """Number GPUs as nvidia-smi does, unless the operator says otherwise; before CUDA is used."""
    os.environ.setdefault(ORDER, "PCI_BUS_ID")


def check_accelerator(params: Params, found: Sequence[str]) -> bool:
    """Return whether to run on an accelerator; raise LoadError where one is asked for that is not among `found`."""
    shown = ", ".join(f"{index}: {name}" for index, name in enumerate(found)) or "none"
    if params.device_index >= max(len(found), 1):
        raise LoadError(f"params.device_index: No accelerator `{params.device_index}`, this process sees [{shown}]")
    if params.gpu_memory_share and not found:
        raise LoadError("params.gpu_memory_share: This process sees no accelerator whose memory could be shared")
    return bool(found)


def torch_device(params: Params) -> torch.device:
    """Return the device that PyTorch runs on, its share of memory set."""
    import torch

    number_devices()
    found = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if not check_accelerator(params, found):
        return torch.device("cpu")
    device = torch.device("cuda", params.device_index)
    if params.gpu_memory_share:
        torch.cuda.set_per_process_memory_fraction(params.gpu_memory_share, device)
    return device


def show_only(index: int) -> None:
    """Let CUDA see one GPU of those that it would; for libraries that take no index, before they are imported."""
    number_devices()
    if VISIBLE not in os.environ:
        os.environ[VISIBLE] = str(index)
        return
    found = [each.strip() for each in os.environ[VISIBLE].split(",") if each.strip()]
    if index >= max(len(found), 1):
        raise LoadError(f"params.device_index: No accelerator `{index}`, {VISIBLE} shows [{', '.join(found)}]")
    if found:
        os.environ[VISIBLE] = found[index]


def device_memories(driver: Any = None) -> tuple[int, ...]:
    """Return the bytes of each GPU that CUDA sees, as its driver tells them; none where there is no driver."""
    number_devices()
    try:
        cuda = driver or ctypes.CDLL(DRIVER)
    except OSError:
        return ()
    count, device, size = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    found = []
    for index in range(count.value):
        if cuda.cuDeviceGet(ctypes.byref(device), index) or cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device):
            return ()
        found.append(size.value)
    return tuple(found)
