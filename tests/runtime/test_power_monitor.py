"""The present power."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from forge_runtime.power.monitor import PowerMonitor
from forge_runtime.power.reader import PowerReader, SensorError
from tests.runtime.fake import wait_for
from tests.runtime.power_fake import FakeReader, found, power_threads, raising

Start = Callable[..., PowerMonitor]


@pytest.fixture
def start() -> Iterator[Start]:
    monitors: list[PowerMonitor] = []

    def begin(*readers: PowerReader, clock: Callable[[], float] = time.monotonic) -> PowerMonitor:
        monitors.append(PowerMonitor(found(*readers), 0.002, clock=clock))
        monitors[-1].start()
        return monitors[-1]

    yield begin
    for monitor in monitors:
        monitor.stop()
    wait_for(lambda: not power_threads())


def sensor(name: str, watts: Callable[[float], float], clock: Callable[[], float] = time.monotonic) -> FakeReader:
    return FakeReader(watts, clock, name=name)


def test_every_rail_is_told_and_their_total(start: Start) -> None:
    monitor = start(sensor("a", lambda _: 2.0), sensor("b", lambda _: 3.0))
    wait_for(lambda: monitor.watts() is not None and monitor.reason is None)

    assert {"a": 2.0, "b": 3.0, "total": 5.0} == monitor.watts()


def test_without_a_sensor_there_is_a_reason_and_no_thread() -> None:
    monitor = PowerMonitor(found(rapl="No RAPL", nvml="No GPU"))
    monitor.start()

    assert (None, "rapl: No RAPL; nvml: No GPU") == (monitor.watts(), monitor.reason)
    assert [] == power_threads()
    monitor.stop()


def test_before_the_first_reading_there_is_none() -> None:
    monitor = PowerMonitor(found(sensor("a", lambda _: 2.0)))

    assert (None, "a: Not read yet") == (monitor.watts(), monitor.reason)


def test_a_sensor_that_does_not_answer_leaves_no_total(start: Start) -> None:
    monitor = start(sensor("a", lambda _: 2.0), sensor("b", raising("Gone")))
    wait_for(lambda: monitor.watts() is not None)

    assert ({"a": 2.0}, "b: Gone") == (monitor.watts(), monitor.reason)


def test_a_sensor_that_is_lost_is_not_told_on(start: Start) -> None:
    gone = threading.Event()

    def watts(_: float) -> float:
        if gone.is_set():
            raise SensorError("Gone")
        return 2.0

    monitor = start(sensor("a", watts), clock=lambda: 0.0)
    wait_for(lambda: monitor.watts() is not None)
    gone.set()
    wait_for(lambda: monitor.watts() is None)

    assert "a: Gone" == monitor.reason


def test_a_sensor_that_comes_back_is_told_again(start: Start) -> None:
    readings = itertools.count()

    def watts(_: float) -> float:
        if next(readings) < 3:
            raise SensorError("Not yet")
        return 2.0

    monitor = start(sensor("a", watts))
    wait_for(lambda: monitor.reason is None)

    assert {"a": 2.0, "total": 2.0} == monitor.watts()


def test_no_power_is_no_reading(start: Start) -> None:
    monitor = start(sensor("a", lambda _: 0.0))
    wait_for(lambda: monitor.reason == "a: Says 0 W")

    assert monitor.watts() is None


def test_a_sensor_that_hangs_is_not_told_on(start: Start) -> None:
    release, hanging = threading.Event(), threading.Event()
    readings = itertools.count()
    now = [0.0]

    def watts(_: float) -> float:
        if next(readings) == 2:
            hanging.set()
            release.wait(10)
        return 2.0

    ticks = itertools.count(1)
    monitor = start(sensor("a", watts, lambda: next(ticks) * 1e-6), clock=lambda: now[0])
    assert hanging.wait(10)
    before = monitor.watts()
    now[0] = 60.0

    assert ({"a": 2.0, "total": 2.0}, None, "a: Silent") == (before, monitor.watts(), monitor.reason)
    release.set()


def test_it_ends_when_it_is_told_to(start: Start) -> None:
    monitor = start(sensor("a", lambda _: 2.0))
    wait_for(lambda: power_threads() == ["power monitor"])

    monitor.stop()

    assert [] == power_threads()
