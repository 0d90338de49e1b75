"""RAPL, in a tree that a test writes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge_runtime.power.rapl import find_rapl
from forge_runtime.power.reader import SensorError, Span
from tests.runtime.power_fake import FakeClock, write_rapl

SERVER = {
    "intel-rapl:0": ("package-0", 1_000),
    "intel-rapl:0:0": ("dram", 2_000),
    "intel-rapl:1": ("package-1", 3_000),
    "intel-rapl:1:0": ("dram", 4_000),
}
LAPTOP = {
    "intel-rapl:0": ("package-0", 1_000),
    "intel-rapl:0:0": ("core", 2_000),
    "intel-rapl:0:1": ("uncore", 3_000),
    "intel-rapl:1": ("psys", 4_000),
}


def measure(root: Path, later: dict[str, tuple[str, int]]) -> tuple[Span, dict[str, object]]:
    """Read, write another tree over it, read again a tenth of a second later."""
    times = iter([5.0, 5.1])
    reader = find_rapl(root, lambda: next(times))
    before = reader.read()
    write_rapl(root, later)
    span = Span(before, reader.read())
    return span, reader.sample(span, "idle")


def raised(zones: dict[str, tuple[str, int]], by: int) -> dict[str, tuple[str, int]]:
    return {zone: (name, energy + by) for zone, (name, energy) in zones.items()}


def test_a_sample_is_as_pyjoules_had_it(tmp_path: Path) -> None:
    write_rapl(tmp_path, SERVER)

    _, sample = measure(tmp_path, raised(SERVER, 500_000))

    assert list(sample) == ["tag", "duration", "package_0", "package_1", "dram_0", "dram_1"]
    assert sample["duration"] == 0.1
    assert sample["package_0"] == 500_000


def test_the_total_is_packages_and_memory(tmp_path: Path) -> None:
    write_rapl(tmp_path, SERVER)

    span, _ = measure(tmp_path, raised(SERVER, 500_000))

    assert pytest.approx(20.0) == span.total(span.watts())


def test_parts_of_a_package_and_the_board_are_shown_but_not_counted(tmp_path: Path) -> None:
    write_rapl(tmp_path, LAPTOP)

    span, sample = measure(tmp_path, raised(LAPTOP, 500_000))

    assert ["package_0", "core_0", "uncore_0", "psys_1"] == list(sample)[2:]
    assert pytest.approx(5.0) == span.total(span.watts())


def test_a_package_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    both = {**LAPTOP, "intel-rapl-mmio:0": ("package-0", 7_000_000)}
    write_rapl(tmp_path, both)

    span, _ = measure(tmp_path, raised(LAPTOP, 500_000))

    assert pytest.approx(5.0) == span.total(span.watts())


def test_a_package_that_is_in_memory_mapped_registers_alone_is_measured(tmp_path: Path) -> None:
    write_rapl(tmp_path, {"intel-rapl-mmio:0": ("package-0", 1_000)})

    assert ["package_0"] == list(find_rapl(tmp_path).read().rails)


def test_dies_of_a_socket_are_told_apart(tmp_path: Path) -> None:
    dies = {
        "intel-rapl:0": ("package-0-die-0", 1),
        "intel-rapl:0:0": ("dram", 1),
        "intel-rapl:1": ("package-0-die-1", 1),
        "intel-rapl:1:0": ("dram", 1),
    }
    write_rapl(tmp_path, dies)

    names = ["package_0_die_0", "package_0_die_1", "dram_0_die_0", "dram_0_die_1"]

    assert names == list(find_rapl(tmp_path).read().rails)


def test_a_counter_that_starts_again_is_counted_on(tmp_path: Path) -> None:
    write_rapl(tmp_path, {"intel-rapl:0": ("package-0", 262_143_000_000)})

    _, sample = measure(tmp_path, {"intel-rapl:0": ("package-0", 171_150)})

    assert sample["package_0"] == 500_000


def test_a_zone_that_disappears_is_an_error(tmp_path: Path) -> None:
    write_rapl(tmp_path, SERVER)
    reader = find_rapl(tmp_path, FakeClock().monotonic)
    (tmp_path / "sys/class/powercap/intel-rapl:1/energy_uj").unlink()

    with pytest.raises(SensorError, match=r"intel-rapl:1/energy_uj`: No such file"):
        reader.read()


def test_a_machine_without_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match=r"No `intel-rapl` in `.*/sys/class/powercap`: .* has no RAPL"):
        find_rapl(tmp_path)


def test_a_container_that_hides_it_is_told_how_to_show_it(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/powercap"
    folder.mkdir(parents=True)
    (folder / "intel-rapl:0").symlink_to("../../devices/virtual/powercap/intel-rapl/intel-rapl:0")

    with pytest.raises(SensorError, match="`--security-opt systempaths=unconfined`"):
        find_rapl(tmp_path)


def test_a_counter_that_is_none_is_named(tmp_path: Path) -> None:
    write_rapl(tmp_path, {"intel-rapl:0": ("package-0", 1)})
    energy = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    energy.unlink()
    energy.mkdir()

    with pytest.raises(SensorError, match="intel-rapl:0`: Is a directory"):
        find_rapl(tmp_path)


@pytest.fixture
def nobody() -> Iterator[Path]:
    """Be a user who may not read what is root's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        write_rapl(Path(folder), {"intel-rapl:0": ("package-0", 1)})
        (Path(folder) / "sys/class/powercap/intel-rapl:0/energy_uj").chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)


def test_a_counter_that_is_for_root_says_what_to_do(nobody: Path) -> None:
    with pytest.raises(SensorError, match=r"energy_uj`: May be read by root only .*`--user 0`, or `chmod a\+r`"):
        find_rapl(nobody)
