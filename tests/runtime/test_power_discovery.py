"""Which sensors are found, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

from forge_runtime.power.discovery import find_readers
from forge_runtime.power.nvml import NvmlError
from tests.runtime.power_fake import FakeNvml, write_ina3221, write_rapl


def broken() -> FakeNvml:
    raise NvmlError("nvmlInit_v2", 9, "Driver Not Loaded")


def test_a_server_with_a_gpu_has_both(tmp_path: Path) -> None:
    write_rapl(tmp_path, {"intel-rapl:0": ("package-0", 1)})

    found = find_readers(tmp_path, nvml=lambda: FakeNvml(5.0), environ={})

    assert ["rapl", "nvml"] == [reader.name for reader in found.readers]
    assert ["ina3221"] == list(found.reasons)


def test_a_jetson_has_its_own(tmp_path: Path) -> None:
    write_ina3221(tmp_path, {"1-0040": [("VDD_IN", 5_000, 100)]})

    found = find_readers(tmp_path, nvml=lambda: FakeNvml(3), environ={})

    assert ["ina3221"] == [reader.name for reader in found.readers]


def test_a_machine_without_any_has_a_reason_for_each(tmp_path: Path) -> None:
    found = find_readers(tmp_path, nvml=broken, environ={})

    assert () == found.readers
    assert ["rapl", "nvml", "ina3221"] == list(found.reasons)
    assert "nvml: NVML's `nvmlInit_v2` gives error 9 (Driver Not Loaded)" in found.reason


def test_nvml_may_be_left_alone(tmp_path: Path) -> None:
    assert "Not looked for" == find_readers(tmp_path, nvml=None).reasons["nvml"]


def test_this_machine_can_be_asked() -> None:
    found = find_readers()

    assert {"rapl", "nvml", "ina3221"} == {reader.name for reader in found.readers} | set(found.reasons)
