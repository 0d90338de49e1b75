"""Power of NVIDIA GPUs: NVML, the driver's own library, called through ctypes.

The library is opened and initialised once, in the process that serves; ctypes gives up the interpreter's lock during
a call. From Ampere on, the power that a GPU states is the mean of its last second: where it counts energy too, means
are made of that. CUDA numbers GPUs as NVML does only under `CUDA_DEVICE_ORDER=PCI_BUS_ID`, which matters where GPUs
of several kinds are in one machine; a UUID is always right. Not run on hardware.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from forge_runtime.power.reader import Rail, Reading, SensorError, Span

__all__ = ["Nvml", "NvmlError", "NvmlLibrary", "NvmlReader", "find_nvml"]

LIBRARY: Final = "libnvidia-ml.so.1"
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
TEXT_SIZE: Final = 96
"""NVML's longest name, ending included."""
FUNCTION_NOT_FOUND: Final = 13


class NvmlError(SensorError):
    """A call returned something else than success."""

    def __init__(self, call: str, code: int, text: str) -> None:
        self.code = code
        super().__init__(f"NVML's `{call}` gives error {code} ({text})")


class Nvml(Protocol):
    """What is called of the library; a device is a handle of its own. Every call may raise NvmlError."""

    def count(self) -> int:
        """Return how many GPUs the process may see."""
        ...

    def device(self, index: int) -> int:
        """Return the handle of one."""
        ...

    def uuid(self, device: int) -> str:
        """Return `GPU-...`."""
        ...

    def title(self, device: int) -> str:
        """Return what it is sold as."""
        ...

    def power_mw(self, device: int) -> int:
        """Return milliwatts."""
        ...

    def energy_mj(self, device: int) -> int:
        """Return millijoules since the driver was loaded; Volta and newer."""
        ...


class NvmlLibrary:
    """The shared library, initialised."""

    def __init__(self, file: str = LIBRARY) -> None:
        try:
            self._library = ctypes.CDLL(file)
        except OSError as error:
            raise SensorError(
                f"`{file}` cannot be opened ({error}): no NVIDIA driver, or the container was started without `--gpus`"
            ) from error
        self._call("nvmlInit_v2")

    def count(self) -> int:
        """Return how many GPUs the process may see."""
        found = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(found))
        return found.value

    def device(self, index: int) -> int:
        """Return the handle of one."""
        found = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(found))
        return found.value or 0

    def uuid(self, device: int) -> str:
        """Return `GPU-...`."""
        return self._text("nvmlDeviceGetUUID", device)

    def title(self, device: int) -> str:
        """Return what it is sold as."""
        return self._text("nvmlDeviceGetName", device)

    def power_mw(self, device: int) -> int:
        """Return milliwatts."""
        found = ctypes.c_uint()
        self._call("nvmlDeviceGetPowerUsage", ctypes.c_void_p(device), ctypes.byref(found))
        return found.value

    def energy_mj(self, device: int) -> int:
        """Return millijoules since the driver was loaded."""
        found = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_void_p(device), ctypes.byref(found))
        return found.value

    def _text(self, call: str, device: int) -> str:
        buffer = ctypes.create_string_buffer(TEXT_SIZE)
        self._call(call, ctypes.c_void_p(device), buffer, ctypes.c_uint(TEXT_SIZE))
        return buffer.value.decode(errors="replace")

    def _call(self, call: str, *arguments: object) -> None:
        try:
            function = getattr(self._library, call)
        except AttributeError:
            raise NvmlError(call, FUNCTION_NOT_FOUND, "the driver is too old to have it") from None
        code = int(function(*arguments))
        if code:
            raise NvmlError(call, code, self._words(code))

    def _words(self, code: int) -> str:
        try:
            function = self._library.nvmlErrorString
        except AttributeError:
            return "unknown"
        function.restype = ctypes.c_char_p
        text = function(ctypes.c_int(code))
        return text.decode(errors="replace") if isinstance(text, bytes) else "unknown"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that is measured."""

    index: int
    handle: int
    title: str
    counts_energy: bool


class NvmlReader:
    """The GPUs that the model may run on."""

    name = "nvml"
    is_accelerator = True

    def __init__(self, nvml: Nvml, gpus: Sequence[Gpu], clock: Callable[[], float] = time.monotonic) -> None:
        self._nvml = nvml
        self._gpus = {f"gpu_{gpu.index}": gpu for gpu in gpus}
        self._clock = clock

    def read(self) -> Reading:
        """Ask every GPU."""
        seconds = self._clock()
        rails = {
            name: Rail(
                watts=self._nvml.power_mw(gpu.handle) / 1000,
                energy_uj=self._nvml.energy_mj(gpu.handle) * 1000 if gpu.counts_energy else None,
            )
            for name, gpu in self._gpus.items()
        }
        return Reading(seconds, rails)

    def sample(self, span: Span, tag: str) -> dict[str, object]:
        """Show the first GPU as `accel`, and where there are more, all as `accels`."""
        shown = [
            {"Power": span.after.rails[name].watts, "GPU Name": gpu.title, "GPU Index": gpu.index}
            for name, gpu in self._gpus.items()
        ]
        return {"accel": shown[0], "accels": shown} if len(shown) > 1 else {"accel": shown[0]}


def find_nvml(nvml: Nvml, environ: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> NvmlReader:
    """Find the GPUs that `CUDA_VISIBLE_DEVICES` leaves; raise SensorError where none says its power."""
    handles = [nvml.device(index) for index in range(nvml.count())]
    if not handles:
        raise SensorError("NVML sees no GPU: give the container one with `--gpus`")
    indices = _visible(environ.get(VISIBLE), [nvml.uuid(handle) for handle in handles])
    gpus: list[Gpu] = []
    faults: list[NvmlError] = []
    for index in indices:
        try:
            gpus.append(_gpu(nvml, index, handles[index]))
        except NvmlError as error:
            faults.append(error)  # as an integrated GPU does: a Jetson's is measured by its INA3221
    if faults and not gpus:
        raise faults[0]
    if not gpus:
        raise SensorError(f"`{VISIBLE}` is `{environ.get(VISIBLE)}`: it leaves no GPU")
    return NvmlReader(nvml, gpus, clock)


def _gpu(nvml: Nvml, index: int, handle: int) -> Gpu:
    nvml.power_mw(handle)
    try:
        nvml.energy_mj(handle)
        counts_energy = True
    except NvmlError:
        counts_energy = False
    return Gpu(index, handle, nvml.title(handle), counts_energy)


def _visible(wanted: str | None, uuids: Sequence[str]) -> list[int]:
    """Choose as CUDA does: up to the first name that is none; a UUID may be cut short where that is clear."""
    if wanted is None:
        return list(range(len(uuids)))
    chosen: list[int] = []
    for name in map(str.strip, wanted.split(",")):
        if name.startswith("MIG-"):
            raise SensorError(f"`{VISIBLE}` names `{name}`, a slice of a GPU: only a whole GPU says its power")
        if name.startswith("GPU-"):
            found = [index for index, uuid in enumerate(uuids) if uuid.startswith(name)]
        else:
            found = [index for index in range(len(uuids)) if str(index) == name]
        if len(found) != 1:
            break
        chosen += [index for index in found if index not in chosen]
    return chosen
