"""A Jetson's sensors, in a tree that a test writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from forge_runtime.power.ina3221 import find_ina3221
from forge_runtime.power.reader import SensorError, Span
from tests.runtime.power_fake import write, write_ina3221

Channels = dict[str, Sequence[tuple[str, int, int] | None]]

AGX_ORIN: Channels = {
    "1-0040": [("VDD_GPU_SOC", 20_000, 500), ("VDD_CPU_CV", 20_000, 100), ("VIN_SYS_5V0", 5_000, 1_000)],
    "1-0041": [("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5_000, 200), None],
}
ORIN_NX: Channels = {"1-0040": [("VDD_IN", 5_000, 1_600), ("VDD_CPU_GPU_CV", 5_000, 400), ("VDD_SOC", 5_000, 300)]}


def sample(root: Path) -> dict[str, object]:
    times = iter([1.0, 1.1])
    reader = find_ina3221(root, lambda: next(times))
    return reader.sample(Span(reader.read(), reader.read()), "idle")


def test_a_sample_has_volts_amperes_and_watts_by_rail(tmp_path: Path) -> None:
    write_ina3221(tmp_path, AGX_ORIN)

    shown = sample(tmp_path)

    assert list(shown) == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO", "Total Power"]
    assert shown["VDD_GPU_SOC"] == {"Voltage": 20.0, "Current": 0.5, "Power": 10.0}


def test_memory_is_not_counted_twice(tmp_path: Path) -> None:
    write_ina3221(tmp_path, AGX_ORIN)

    assert pytest.approx(10.0 + 2.0 + 5.0) == sample(tmp_path)["Total Power"]


def test_where_the_input_is_measured_it_is_the_total(tmp_path: Path) -> None:
    write_ina3221(tmp_path, ORIN_NX)

    assert pytest.approx(8.0) == sample(tmp_path)["Total Power"]


def test_what_feeds_the_carrier_board_is_not_counted(tmp_path: Path) -> None:
    write_ina3221(tmp_path, {**AGX_ORIN, "2-0041": [("CVB_ATX_12V", 12_000, 3_000)]})

    assert pytest.approx(17.0) == sample(tmp_path)["Total Power"]


def test_a_chip_is_found_by_its_name_too(tmp_path: Path) -> None:
    chip = "sys/class/hwmon/hwmon3"
    write(tmp_path, {f"{chip}/name": "ina3221", "sys/class/hwmon/hwmon0/name": "coretemp"})
    write(tmp_path, {f"{chip}/in1_label": "VDD_IN", f"{chip}/in1_input": 5_000, f"{chip}/curr1_input": 100})

    assert pytest.approx(0.5) == sample(tmp_path)["Total Power"]


def test_a_chip_that_is_linked_twice_is_read_once(tmp_path: Path) -> None:
    write_ina3221(tmp_path, {"1-0040": [None, None, None], "1-0041": [("", 5_000, 100), None, None]})
    (tmp_path / "sys/class/hwmon").mkdir(parents=True)
    target = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon2"
    (tmp_path / "sys/class/hwmon/hwmon2").symlink_to(target)

    assert ["1-0041_ch1"] == list(find_ina3221(tmp_path).read().rails)


def test_a_channel_that_is_switched_off_is_left_out(tmp_path: Path) -> None:
    write_ina3221(tmp_path, ORIN_NX)
    off = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in3_input"
    off.unlink()
    off.mkdir()

    assert ["VDD_IN", "VDD_CPU_GPU_CV"] == list(find_ina3221(tmp_path).read().rails)


def test_a_chip_that_disappears_is_an_error(tmp_path: Path) -> None:
    write_ina3221(tmp_path, ORIN_NX)
    reader = find_ina3221(tmp_path)
    (tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/curr2_input").unlink()

    with pytest.raises(SensorError, match=r"curr2_input`: No such file"):
        reader.read()


def test_a_machine_that_is_no_jetson_says_so(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match="No `ina3221` in .*: not a Jetson"):
        find_ina3221(tmp_path)


def test_a_chip_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_ina3221(tmp_path, {"1-0040": [("VDD_IN", 5_000, 100)]})
    value = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in1_input"
    value.write_text("unknown\n")

    with pytest.raises(SensorError, match="in1_input`: Not a number"):
        find_ina3221(tmp_path)
