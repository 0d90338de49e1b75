"""Power by phase, on a clock that a test turns."""

from __future__ import annotations

import itertools
import json
import os
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forge_runtime.power.discovery import find_readers
from forge_runtime.power.meter import PHASES, measure
from forge_runtime.power.nvml import find_nvml
from forge_runtime.power.reader import PowerReader, SensorError
from forge_runtime.power.settings import PowerSettings
from tests.runtime.fake import wait_for
from tests.runtime.power_fake import (
    FakeBench,
    FakeClock,
    FakeNvml,
    FakeReader,
    found,
    power_threads,
    raising,
    write_ina3221,
    write_rapl,
)

WORK = ("preprocess", "inference", "postprocess")
FAST = PowerSettings(0.06, 0.0, 0.0, 0.01, dummy_s=0.05, sensor_s=0.05)
"""On the machine's own clock."""


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    wait_for(lambda: not power_threads())


class Turned(FakeClock):
    """A clock that stands still until the work of a phase has begun."""

    def __init__(self, bench: FakeBench, on_wait: Callable[[float], None] = lambda _: None) -> None:
        super().__init__(self._turn)
        self._bench = bench
        self._then = on_wait

    def _turn(self, now: float) -> None:
        if "power dummy" in power_threads():
            self._bench.entered.wait(5)
        else:
            self._bench.entered.clear()
        self._then(now)


def constant(watts: float, clock: FakeClock, name: str = "fake", *, is_accelerator: bool = False) -> FakeReader:
    return FakeReader(lambda _: watts, clock.monotonic, name=name, is_accelerator=is_accelerator)


def run(bench: FakeBench, *readers: PowerReader, clock: FakeClock | None = None, **reasons: str) -> dict[str, Any]:
    result = measure(found(*readers, **reasons), bench, clock=clock or Turned(bench))
    json.dumps(result, allow_nan=False)
    return result


def test_each_phase_has_its_samples_by_number() -> None:
    bench = FakeBench(*WORK)
    clock = Turned(bench)

    result = run(bench, constant(5.0, clock), clock=clock)

    assert list(PHASES) == list(result)
    assert [100] * 4 == [result[phase]["indexes"] for phase in PHASES]
    assert {"timestamp": "2026-01-01T00:00:05.100000+00:00", "tag": "idle", "fake": 5.0} == result["idle"]["0"]
    assert "99" in result["idle"]
    assert "100" not in result["idle"]


def test_the_work_of_each_phase_is_repeated_and_of_no_other() -> None:
    bench = FakeBench(*WORK)
    clock = Turned(bench)

    run(bench, constant(5.0, clock), clock=clock)

    assert list(WORK) == bench.ran


def test_energy_of_one_step_is_told() -> None:
    bench = FakeBench(*WORK)
    clock = Turned(bench)

    phase = run(bench, constant(5.0, clock), clock=clock)["inference"]

    # One step, which lasts as long as the ramp and the samples: 13 s.
    assert (1, pytest.approx(65.0), 5.0) == (phase["iterations"], phase["joules_per_iteration"], phase["mean_w"])


def test_idle_has_no_steps() -> None:
    bench = FakeBench()
    clock = FakeClock()

    assert "iterations" not in run(bench, constant(5.0, clock), clock=clock)["idle"]


def test_samples_of_the_ramp_do_not_count() -> None:
    clock = FakeClock()
    reader = FakeReader(lambda now: 1000.0 if now < 4.9 else 5.0, clock.monotonic)

    assert 5.0 == run(FakeBench(), reader, clock=clock)["idle"]["mean_w"]


def test_rapl_gives_microjoules(tmp_path: Path) -> None:
    write_rapl(tmp_path, {"intel-rapl:0": ("package-0", 0), "intel-rapl:0:0": ("core", 0)})
    energy = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"

    def count(now: float) -> None:
        energy.write_text(f"{round(now * 20e6)}\n")

    clock = FakeClock(count)
    sensors = find_readers(tmp_path, nvml=None, clock=clock.monotonic)

    phase: Any = measure(sensors, FakeBench(), clock=clock)["idle"]

    shown = {key: value for key, value in phase["99"].items() if key != "timestamp"}
    assert {"tag": "idle", "duration": 0.1, "package_0": pytest.approx(2e6), "core_0": 0} == shown
    assert (20.0, {"package_0": 20.0, "core_0": 0.0}) == (phase["mean_w"], phase["rails_w"])


def test_a_gpu_stands_beside_its_host() -> None:
    clock = FakeClock()
    gpu = find_nvml(FakeNvml(100.0), {}, clock.monotonic)

    phase = run(FakeBench(), constant(20.0, clock, "rapl"), gpu, clock=clock)["idle"]

    timestamp = "2026-01-01T00:00:05.100000+00:00"
    assert phase["0"] == {
        "host": {"timestamp": timestamp, "tag": "idle", "rapl": 20.0},
        "accel": {"Power": 100.0, "GPU Name": "Fake 0", "GPU Index": 0},
        "timestamp": timestamp,
    }
    assert (120.0, {"rapl": 20.0, "gpu_0": 100.0}) == (phase["mean_w"], phase["rails_w"])


def test_a_host_that_is_not_measured_is_null_and_says_why() -> None:
    clock = FakeClock()
    gpu = find_nvml(FakeNvml(100.0), {}, clock.monotonic)

    result = run(FakeBench(), gpu, clock=clock, rapl="For root only")

    assert (None, "rapl: For root only") == (result["idle"]["0"]["host"], result["reason"]["host"])


def test_a_jetson_gives_rails(tmp_path: Path) -> None:
    write_ina3221(tmp_path, {"1-0040": [("VDD_IN", 5_000, 1_000), ("VDD_SOC", 5_000, 200)]})
    clock = FakeClock()
    sensors = find_readers(tmp_path, nvml=None, clock=clock.monotonic)

    phase: Any = measure(sensors, FakeBench(), clock=clock)["idle"]

    assert ["timestamp", "VDD_IN", "VDD_SOC", "Total Power"] == list(phase["0"])
    assert (5.0, 5.0) == (phase["0"]["Total Power"], phase["mean_w"])


def test_without_a_sensor_every_phase_is_null_and_at_once() -> None:
    bench = FakeBench(*WORK)
    clock = FakeClock()

    result = run(bench, clock=clock, rapl="No RAPL", nvml="No GPU")

    assert {**dict.fromkeys(PHASES), "reason": {"all": "rapl: No RAPL; nvml: No GPU"}} == result
    assert (0.0, []) == (clock.monotonic(), bench.ran)


def test_before_the_first_request_only_idle_is_measured() -> None:
    bench = FakeBench(missing="No request has come yet")
    clock = FakeClock()

    result = run(bench, constant(5.0, clock), clock=clock)

    assert 100 == result["idle"]["indexes"]
    assert [None] * 3 == [result[phase] for phase in WORK]
    assert dict.fromkeys(WORK, "No request has come yet") == result["reason"]


def test_a_phase_that_the_server_has_not_is_null() -> None:
    bench = FakeBench("inference")
    clock = Turned(bench)

    result = run(bench, constant(5.0, clock), clock=clock)

    assert {"preprocess", "postprocess"} == set(result["reason"])
    assert "The server has no `preprocess` to repeat" == result["reason"]["preprocess"]
    assert 100 == result["inference"]["indexes"]


def test_samples_with_requests_in_them_are_marked_and_left_out_of_the_mean() -> None:
    bench = FakeBench()

    def work(now: float) -> None:
        # A request from 6 s to 7 s, another that begins and ends within one sample.
        bench.work = (0, 0) if now < 5.95 else (1, 1) if now < 6.95 else (2, 0) if now < 9.05 else (4, 0)

    clock = FakeClock(work)
    reader = FakeReader(lambda _: 500.0 if bench.work[1] or 9.0 < clock.monotonic() < 9.15 else 5.0, clock.monotonic)

    phase = run(bench, reader, clock=clock)["idle"]

    marked = [index for index in range(100) if phase[str(index)].get("disturbed")]
    assert [*range(9, 20), 40] == marked
    assert (12, 5.0) == (phase["disturbed"], phase["mean_w"])


def test_where_requests_never_pause_the_mean_is_of_all() -> None:
    bench = FakeBench()
    bench.work = (1, 1)
    clock = FakeClock()

    phase = run(bench, constant(5.0, clock), clock=clock)["idle"]

    assert (100, 5.0) == (phase["disturbed"], phase["mean_w"])


def test_work_that_never_had_its_turn_was_not_measured() -> None:
    class Busy(FakeBench):
        def run_once(self, phase: str, stopped: Callable[[], bool]) -> bool:
            super().run_once(phase, stopped)
            return False

    bench = Busy("inference")
    bench.work = (1, 1)
    clock = Turned(bench)

    result = run(bench, constant(5.0, clock), clock=clock)

    assert result["inference"] is None
    assert "No dummy `inference` had its turn" in result["reason"]["inference"]


def test_work_among_requests_has_no_energy_of_its_own() -> None:
    bench = FakeBench("inference")
    now = itertools.count()
    clock = Turned(bench, lambda _: setattr(bench, "work", (2 * (next(now) // 10), 0)))

    phase = run(bench, constant(5.0, clock), clock=clock)["inference"]

    assert (1, None) == (phase["iterations"], phase["joules_per_iteration"])


def test_a_sensor_that_disappears_ends_its_phase() -> None:
    clock = FakeClock()

    def watts(now: float) -> float:
        if now > 6.05:
            raise SensorError("`energy_uj`: No such file")
        return 5.0

    result = run(FakeBench(), FakeReader(watts, clock.monotonic), clock=clock)

    assert (10, 5.0) == (result["idle"]["indexes"], result["idle"]["mean_w"])
    assert "fake: `energy_uj`: No such file, after 10 samples" == result["reason"]["idle"]


def test_a_sensor_that_disappears_ends_the_samples_of_all() -> None:
    clock = FakeClock()

    def watts(now: float) -> float:
        if now > 6.05:
            raise SensorError("Gone")
        return 5.0

    gone = FakeReader(watts, clock.monotonic, name="gone")

    result = run(FakeBench(), constant(2.0, clock, "good"), gone, clock=clock)

    assert (10, 7.0) == (result["idle"]["indexes"], result["idle"]["mean_w"])


def test_a_counter_that_is_reset_ends_its_phase(tmp_path: Path) -> None:
    write_rapl(tmp_path, {"intel-rapl:0": ("package-0", 0)})
    energy = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"

    def count(now: float) -> None:
        energy.write_text(f"{round((now if now < 6.05 else now - 6) * 20e6)}\n")

    clock = FakeClock(count)
    sensors = find_readers(tmp_path, nvml=None, clock=clock.monotonic)

    result: Any = measure(sensors, FakeBench(), clock=clock)

    assert (10, 20.0) == (result["idle"]["indexes"], result["idle"]["mean_w"])
    assert "rapl: The counter of `package_0` was reset, after 10 samples" == result["reason"]["idle"]


@pytest.mark.parametrize(("duration", "interval", "samples"), [(0.3, 0.1, 3), (1.0, 0.3, 3), (0.1, 0.1, 1)])
def test_samples_fill_the_time(duration: float, interval: float, samples: int) -> None:
    clock = FakeClock()
    settings = PowerSettings(duration, 0.0, 0.0, interval)

    result: Any = measure(found(constant(5.0, clock)), FakeBench(), settings, clock=clock)

    assert samples == result["idle"]["indexes"]


def test_a_sensor_that_is_gone_leaves_the_others() -> None:
    clock = FakeClock()
    gone = FakeReader(raising("Gone"), clock.monotonic, name="nvml", is_accelerator=True)

    result = run(FakeBench(), constant(20.0, clock, "rapl"), gone, clock=clock)

    assert (None, 20.0) == (result["idle"]["0"]["accel"], result["idle"]["mean_w"])
    assert "nvml: Gone" == result["reason"]["idle"]


def test_sensors_that_are_all_gone_give_null() -> None:
    clock = FakeClock()

    result = run(FakeBench(), FakeReader(raising("Gone"), clock.monotonic), clock=clock)

    assert (None, "fake: Gone") == (result["idle"], result["reason"]["idle"])


def test_a_counter_that_does_not_move_is_null_and_never_zero(tmp_path: Path) -> None:
    write_rapl(tmp_path, {"intel-rapl:0": ("package-0", 7)})
    clock = FakeClock()
    sensors = find_readers(tmp_path, nvml=None, clock=clock.monotonic)

    result: Any = measure(sensors, FakeBench(), clock=clock)

    assert result["idle"] is None
    assert "rapl: Says 0 W" in result["reason"]["idle"]


def test_a_slow_sensor_gives_fewer_samples_and_no_more_time() -> None:
    clock = FakeClock()

    def slow(_: float) -> float:
        clock.wait(threading.Event(), 0.35)
        return 5.0

    result = run(FakeBench(), FakeReader(slow, clock.monotonic), clock=clock)

    assert 24 <= result["idle"]["indexes"] <= 26


def test_work_that_raises_ends_its_phase_alone() -> None:
    class Broken(FakeBench):
        def run_once(self, phase: str, stopped: Callable[[], bool]) -> bool:
            if phase == "inference":
                raise MemoryError("on purpose")
            return super().run_once(phase, stopped)

    result: Any = measure(found(FakeReader(lambda _: 5.0, FakeTime())), Broken(*WORK), FAST)

    assert {"inference": "A dummy `inference` raised MemoryError: on purpose"} == result["reason"]
    assert result["inference"] is None
    assert result["postprocess"]["iterations"] == 1


def test_a_server_that_stops_ends_its_phases() -> None:
    class Stopping(FakeBench):
        def run_once(self, phase: str, stopped: Callable[[], bool]) -> bool:
            self.ran.append(phase)
            return False

    bench = Stopping(*WORK)

    result: Any = measure(found(FakeReader(lambda _: 5.0, FakeTime())), bench, FAST)

    assert "The server stops, or has no `inference` to repeat" == result["reason"]["inference"]
    assert list(WORK) == bench.ran


def test_work_that_hangs_is_left_and_not_asked_again() -> None:
    release = threading.Event()

    class Hanging(FakeBench):
        def run_once(self, phase: str, stopped: Callable[[], bool]) -> bool:
            self.ran.append(phase)
            return release.wait(10)

    bench = Hanging(*WORK)

    result: Any = measure(found(FakeReader(lambda _: 5.0, FakeTime())), bench, FAST)
    release.set()

    text = "A dummy `preprocess` has not ended 0.05 s after it was told to"
    assert dict.fromkeys(WORK, text) == result["reason"]
    assert ["preprocess"] == bench.ran


def test_a_sensor_that_hangs_is_left_and_not_asked_again() -> None:
    release = threading.Event()
    readings = itertools.count()

    def watts(_: float) -> float:
        if next(readings) == 2:
            release.wait(10)
        return 5.0

    bench = FakeBench(*WORK)
    sensors = found(FakeReader(watts, FakeTime(), name="stuck"), FakeReader(lambda _: 5.0, FakeTime(), name="good"))

    result: Any = measure(sensors, bench, FAST)
    release.set()

    assert result["idle"] is None
    assert dict.fromkeys(PHASES, "stuck: No answer for 0.05 s") == result["reason"]
    assert {"good": 5.0} == result["inference"]["rails_w"]


def test_nobody_who_waits_ends_it() -> None:
    asked = threading.Event()
    bench = FakeBench(*WORK)
    settings = PowerSettings(300.0, 0.0, 0.0, 0.2)
    results: list[Any] = []
    sensors = found(FakeReader(lambda _: 5.0, FakeTime()))
    thread = threading.Thread(target=lambda: results.append(measure(sensors, bench, settings, cancelled=asked.is_set)))
    thread.start()
    wait_for(lambda: "power sampler" in power_threads())

    asked.set()

    thread.join(5)
    assert [{**dict.fromkeys(PHASES), "reason": dict.fromkeys(PHASES, "Cancelled")}] == results


def test_no_process_is_forked() -> None:
    forks: list[int] = []
    os.register_at_fork(before=lambda: forks.append(1))

    measure(found(FakeReader(lambda _: 5.0, FakeTime())), FakeBench(*WORK), FAST)

    assert [] == forks


class FakeTime:
    """Times for readings, each later than the last."""

    def __init__(self) -> None:
        self._ticks = itertools.count(1)

    def __call__(self) -> float:
        return next(self._ticks) / 100


class Model:
    """A model's thread that serves requests first, and dummies when there is none."""

    phases = WORK

    def __init__(self) -> None:
        self.dummies = 0
        self.overtaken: list[int] = []
        """Dummies that ran while a request waited."""
        self._begun = self._ended = 0
        self._numbers = itertools.count()
        self._jobs: queue.PriorityQueue[tuple[int, int, Callable[[], None] | None]] = queue.PriorityQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def infer(self) -> None:
        """Serve one request; return when it is answered."""
        self._begun += 1
        seen = self.dummies
        self._submit(0, lambda: self.overtaken.append(self.dummies - seen))
        self._ended += 1

    def run_once(self, phase: str, stopped: Callable[[], bool]) -> bool:
        self._submit(1, self._dummy)
        return True

    def work_count(self) -> int:
        return self._begun + self._ended

    def in_progress(self) -> int:
        return self._begun - self._ended

    def missing(self) -> str | None:
        return None

    def end(self) -> None:
        self._jobs.put((2, 0, None))
        self._thread.join(5)

    def _dummy(self) -> None:
        threading.Event().wait(0.002)
        self.dummies += 1

    def _submit(self, priority: int, call: Callable[[], None]) -> None:
        done = threading.Event()

        def job() -> None:
            call()
            done.set()

        self._jobs.put((priority, next(self._numbers), job))
        assert done.wait(5)

    def _run(self) -> None:
        while (call := self._jobs.get()[2]) is not None:
            call()


def test_requests_are_served_while_power_is_measured() -> None:
    model = Model()
    results: list[Any] = []
    sensors = found(FakeReader(lambda _: 5.0, FakeTime()))
    thread = threading.Thread(target=lambda: results.append(measure(sensors, model, FAST)))
    thread.start()
    while thread.is_alive():
        model.infer()
        thread.join(0.005)
    model.end()

    # A request waits for the one dummy that has begun, and for no other.
    assert max(model.overtaken) <= 1
    assert model.dummies > 0
    assert sum(results[0][phase]["disturbed"] for phase in PHASES if results[0][phase]) > 0
