"""NVML: a library that a test invents, and one that it compiles."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from forge_runtime.power.nvml import NvmlError, NvmlLibrary, find_nvml
from forge_runtime.power.reader import SensorError, Span
from tests.runtime.power_fake import FakeNvml


def gpus(nvml: FakeNvml, visible: str | None = None) -> list[str]:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return list(find_nvml(nvml, environ).read().rails)


def test_a_sample_is_as_the_predecessors_had_it() -> None:
    times = iter([1.0, 1.1])
    reader = find_nvml(FakeNvml(250.5), {}, lambda: next(times))

    sample = reader.sample(Span(reader.read(), reader.read()), "idle")

    assert sample == {"accel": {"Power": 250.5, "GPU Name": "Fake 0", "GPU Index": 0}}


def test_of_several_the_first_is_the_accelerator_and_all_are_shown() -> None:
    times = iter([1.0, 1.1])
    reader = find_nvml(FakeNvml(10.0, 20.0), {"CUDA_VISIBLE_DEVICES": "1,0"}, lambda: next(times))
    span = Span(reader.read(), reader.read())

    sample = reader.sample(span, "idle")

    first, second = (
        {"Power": 20.0, "GPU Name": "Fake 1", "GPU Index": 1},
        {
            "Power": 10.0,
            "GPU Name": "Fake 0",
            "GPU Index": 0,
        },
    )
    assert sample == {"accel": first, "accels": [first, second]}
    assert 30.0 == span.total(span.watts())


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ["gpu_0", "gpu_1", "gpu_2"]),
        ("1", ["gpu_1"]),
        (" 2 , 0 ", ["gpu_2", "gpu_0"]),
        ("0,2,-1,1", ["gpu_0", "gpu_2"]),
        ("0,7,1", ["gpu_0"]),
        ("1,1", ["gpu_1"]),
        ("GPU-00000001-aaaa", ["gpu_1"]),
        ("GPU-00000002,0", ["gpu_2", "gpu_0"]),
    ],
    ids=str,
)
def test_only_what_cuda_sees_is_measured(visible: str | None, expected: list[str]) -> None:
    assert expected == gpus(FakeNvml(1.0, 1.0, 1.0), visible)


@pytest.mark.parametrize(
    "visible", ["", "-1", "NoDevFiles", "GPU-0", "9" * 5000], ids=["none", "-1", "text", "two", "9"]
)
def test_where_cuda_sees_none_that_is_the_reason(visible: str) -> None:
    with pytest.raises(SensorError, match="`CUDA_VISIBLE_DEVICES` is `.*`: it leaves no GPU"):
        gpus(FakeNvml(1.0, 1.0), visible)


def test_a_slice_of_a_gpu_has_no_power_of_its_own() -> None:
    with pytest.raises(SensorError, match="names `MIG-1`, a slice of a GPU"):
        gpus(FakeNvml(1.0), "MIG-1")


def test_a_machine_without_a_gpu_says_so() -> None:
    with pytest.raises(SensorError, match="NVML sees no GPU"):
        gpus(FakeNvml())


def test_an_integrated_gpu_that_does_not_say_its_power_is_a_reason() -> None:
    with pytest.raises(SensorError, match=r"`nvmlDeviceGetPowerUsage` gives error 3 \(Not Supported\)"):
        gpus(FakeNvml(3))


def test_a_gpu_that_does_not_say_its_power_is_left_out() -> None:
    assert ["gpu_1"] == gpus(FakeNvml(3, 5.0))


def test_energy_is_by_the_counter_where_there_is_one() -> None:
    nvml = FakeNvml(100.0, counts_energy=True)
    times = iter([1.0, 2.0])
    reader = find_nvml(nvml, {}, lambda: next(times))
    before = reader.read()
    nvml.energy += 60_000

    assert {"gpu_0": 60.0} == Span(before, reader.read()).joules()


def test_a_gpu_that_is_lost_is_an_error() -> None:
    nvml = FakeNvml(5.0)
    reader = find_nvml(nvml, {})
    nvml.powers[0] = 15

    with pytest.raises(NvmlError, match="error 15"):
        reader.read()


SOURCE = r"""
#include <string.h>
static int ready;
int nvmlInit_v2(void) { return INIT ? INIT : (ready++ ? 99 : 0); }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 1; return ready ? 0 : 1; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = (void *)(0x123456789aUL + i); return 0; }
static int of(void *d) { return d == (void *)0x123456789aUL ? 0 : 2; }
int nvmlDeviceGetUUID(void *d, char *s, unsigned n) { strncpy(s, "GPU-11112222", n); return of(d); }
int nvmlDeviceGetName(void *d, char *s, unsigned n) { strncpy(s, "Compiled", n); return of(d); }
int nvmlDeviceGetPowerUsage(void *d, unsigned *mw) { *mw = 4000000000u; return of(d); }
#ifndef OLD
int nvmlDeviceGetTotalEnergyConsumption(void *d, unsigned long long *mj) { *mj = 1ULL << 40; return of(d); }
#endif
const char *nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : "Unknown Error"; }
"""


def compile_library(folder: Path, *flags: str) -> str:
    """Build a library that has NVML's functions."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = folder / "libnvidia-ml.so.1"
    argv = [compiler, "-shared", "-fPIC", "-O0", *flags, "-x", "c", "-", "-o", str(library)]
    subprocess.run(argv, input=SOURCE, text=True, check=True)
    return str(library)


def test_the_library_is_called_as_its_header_says(tmp_path: Path) -> None:
    reader = find_nvml(NvmlLibrary(compile_library(tmp_path, "-DINIT=0")), {"CUDA_VISIBLE_DEVICES": "GPU-1111"})

    rail = reader.read().rails["gpu_0"]

    assert (4_000_000.0, 2**40 * 1000) == (rail.watts, rail.energy_uj)


def test_a_library_without_energy_gives_power_alone(tmp_path: Path) -> None:
    reader = find_nvml(NvmlLibrary(compile_library(tmp_path, "-DINIT=0", "-DOLD")), {})

    assert reader.read().rails["gpu_0"].energy_uj is None


def test_a_driver_that_is_not_loaded_is_named_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match=r"`nvmlInit_v2` gives error 9 \(Driver Not Loaded\)"):
        NvmlLibrary(compile_library(tmp_path, "-DINIT=9"))


def test_a_missing_library_says_what_to_do() -> None:
    with pytest.raises(SensorError, match="`libno-such-library.so.1` cannot be opened .* without `--gpus`"):
        NvmlLibrary("libno-such-library.so.1")
