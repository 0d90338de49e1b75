"""Time series: what Redis gets of a record, and that nothing that Redis does holds up a request."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from forge_runtime.error import StartError
from forge_runtime.record import Record
from forge_runtime.redis_connection import Connection, Outage, Refusal, Result
from forge_runtime.timeseries import TimeSeries, TimeSeriesConfig, Timing
from tests.runtime import redis_stack
from tests.runtime.fake import wait_for
from tests.runtime.redis_server import (
    HOST,
    FakeRedis,
    Inspector,
    RealRedis,
    RedisServer,
    ScriptedRedis,
    free_port,
    mended_fakeredis,
)

START = 1_700_000_000_123
NOW = 1_700_000_100.0
KEY = f"AIF:shop:gpt2:llm:CPU:speed:{START}:"
CONFIG = TimeSeriesConfig(
    "127.0.0.1",
    app_name="shop",
    network_name="gpt2",
    network_type="llm",
    device="CPU",
    focus="speed",
    node_name="rack 1",
    precision="fp32",
    timeout_s=0.25,
)
METRICS = (
    "batch_size",
    "data_preparation_latency",
    "dataset_size",
    "execution_latency",
    "processing_latency",
    "queue_latency",
    "throughput",
)
LONG_S = 0.1
"""What `add` never takes, on a machine however busy; it takes some microseconds."""


def record(at: float = NOW, **changes: Any) -> Record:
    """Return a request of four items that took 200 ms, half of them to infer, and waited for 50."""
    steps = {"decode": 0.02, "preprocess": 0.03, "queue": 0.05, "infer": 0.1, "postprocess": 0.04, "encode": 0.01}
    made = Record("id", "/api/infer", 200, at, 0.25, steps, items=4, batch_size=8)
    return replace(made, **changes)


def quick(event: threading.Event, seconds: float) -> bool:
    """Wait as a writer does that has little patience."""
    return event.wait(min(seconds, 0.005))


TIMING = Timing(now=lambda: START / 1000, wait=quick)


@contextmanager
def writing(port: int, config: TimeSeriesConfig = CONFIG) -> Iterator[TimeSeries]:
    series = TimeSeries(replace(config, port=port), timing=TIMING)
    series.start()
    try:
        yield series
    finally:
        series.close(0.5)


@contextmanager
def running(server: RedisServer) -> Iterator[RedisServer]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def inspecting(server: RedisServer) -> Iterator[Inspector]:
    inspector = Inspector(server.port)
    try:
        yield inspector
    finally:
        inspector.close()


def require_real() -> None:
    """Skip the test, or fail it, where there is no real server."""
    if not redis_stack.is_ready():
        reason = "no Redis with RedisTimeSeries: `python -m tests.runtime.redis_stack` fetches one"
        if os.environ.get("FORGE_REQUIRE_REDIS"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(params=["fake", "real"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server that runs: each test that takes it says what holds for both kinds."""
    if request.param == "real":
        require_real()
        with running(RealRedis()) as server:
            yield server
    else:
        with mended_fakeredis(), running(FakeRedis()) as server:
            yield server


@pytest.fixture
def real() -> Iterator[RedisServer]:
    """A server that runs, for what fakeredis cannot do."""
    require_real()
    with running(RealRedis()) as server:
        yield server


@pytest.fixture
def redis(server: RedisServer) -> Iterator[Inspector]:
    with inspecting(server) as inspector:
        yield inspector


@pytest.fixture
def real_redis(real: RedisServer) -> Iterator[Inspector]:
    with inspecting(real) as inspector:
        yield inspector


def add_all(series: TimeSeries, records: Sequence[Record]) -> float:
    """Add records, and return the longest that one took."""
    longest = 0.0
    for each in records:
        begun = time.perf_counter()
        series.add(each)
        longest = max(longest, time.perf_counter() - begun)
    return longest


def values(redis: Inspector, metric: str) -> list[float]:
    return [value for _, value in redis.samples(KEY + metric)]


# What is written


def test_a_record_is_a_point_in_the_series_of_each_metric(server: RedisServer, redis: Inspector) -> None:
    with writing(server.port) as series:
        series.add(record())
        wait_for(lambda: series.written == 7)

    expected = {
        "processing_latency": 50.0,
        "data_preparation_latency": 25.0,
        "execution_latency": 25.0,
        "throughput": 20.0,
        "dataset_size": 4.0,
        "batch_size": 8.0,
        "queue_latency": 50.0,
    }
    found = {key.removeprefix(KEY): redis.samples(key) for key in redis.series()}
    assert {metric: [(1_700_000_100_000, value)] for metric, value in expected.items()} == {
        metric: [(at, round(value, 9)) for at, value in samples] for metric, samples in found.items()
    }


def test_the_time_is_that_of_the_request_in_milliseconds(server: RedisServer, redis: Inspector) -> None:
    times = [NOW + 0.001, NOW + 0.002, NOW - 3]
    with writing(server.port) as series:
        add_all(series, [record(at) for at in times])
        wait_for(lambda: series.written == 21)

    found = [at for at, _ in redis.samples(KEY + "throughput")]
    assert [1_700_000_097_000, 1_700_000_100_001, 1_700_000_100_002] == found


def test_a_series_has_labels_a_retention_and_a_policy(server: RedisServer, redis: Inspector) -> None:
    with writing(server.port, replace(CONFIG, retention_ms=60_000)) as series:
        series.add(record())
        wait_for(lambda: series.written == 7)

    labels = {
        "app": "shop",
        "network": "gpt2",
        "type": "llm",
        "device": "CPU",
        "focus": "speed",
        "node": "rack 1",
        "precision": "fp32",
        "instance": f"shop:gpt2:llm:CPU:speed:{START}",
        "metric": "throughput",
        "unit": "items/s",
    }
    info = redis.info(KEY + "throughput")
    assert labels == redis.labels(KEY + "throughput")
    assert (60_000, "last") == (info["retentionTime"], info["duplicatePolicy"])


def test_of_two_in_one_millisecond_the_last_stays(server: RedisServer, redis: Inspector) -> None:
    with writing(server.port) as series:
        series.add(record(items=4))
        wait_for(lambda: series.written == 7)
        series.add(record(items=5))
        wait_for(lambda: series.written == 14)

    assert [5.0] == values(redis, "dataset_size")


def test_of_two_in_one_millisecond_the_last_stays_whatever_the_series_says(
    real: RedisServer, real_redis: Inspector
) -> None:
    real_redis.command("TS.CREATE", KEY + "dataset_size", "DUPLICATE_POLICY", "BLOCK")
    with writing(real.port) as series:
        add_all(series, [record(items=4), record(items=5)])
        wait_for(lambda: series.written == 14)

    assert [5.0] == values(real_redis, "dataset_size")


def test_tokens_are_series_where_the_model_has_them(server: RedisServer, redis: Inspector) -> None:
    with writing(server.port) as series:
        series.add(record(prompt_tokens=30, generated_tokens=20, first_token_seconds=0.08))
        wait_for(lambda: series.written == 11)

    tokens = ("prompt_tokens", "generated_tokens", "tokens_per_second", "first_token_latency")
    found = [values(redis, metric) for metric in tokens]
    assert [[30.0], [20.0], [pytest.approx(200.0)], [pytest.approx(80.0)]] == found


def test_a_very_small_and_a_very_large_value_are_taken(server: RedisServer, redis: Inspector) -> None:
    with writing(server.port) as series:
        series.add(record(steps={"infer": 1e-9, "encode": 0.0}))
        wait_for(lambda: series.written == 6)

    assert [[pytest.approx(4e9)], [pytest.approx(2.5e-7)]] == [
        values(redis, "throughput"),
        values(redis, "execution_latency"),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"status": 400}, id="a refusal"),
        pytest.param({"status": 503}, id="an error"),
        pytest.param({"items": 0}, id="nothing brought"),
        pytest.param({"steps": {"decode": 0.1}}, id="never inferred"),
    ],
)
def test_what_was_not_answered_makes_no_point(changes: Mapping[str, Any]) -> None:
    series = TimeSeries(CONFIG, connect=Unreachable)
    series.add(record(**changes))

    assert 0 == series.pending


def test_a_colon_in_a_name_does_not_shift_the_others(server: RedisServer, redis: Inspector) -> None:
    with writing(server.port, replace(CONFIG, app_name="shop:eu", network_name="", focus="a:b")) as series:
        series.add(record())
        wait_for(lambda: series.written == 7)

    assert {f"AIF:shop-eu::llm:CPU:a-b:{START}"} == {key.rpartition(":")[0] for key in redis.series()}


def test_a_name_that_redis_would_refuse_is_no_lost_point(server: RedisServer, redis: Inspector) -> None:
    names = replace(CONFIG, device="H200 (1g,18gb)", app_name="", node_name="", precision="", focus="\udcff Ü")
    with writing(server.port, names) as series:
        series.add(record())
        wait_for(lambda: series.written == 7)

    (key,) = (key for key in redis.series() if key.endswith(":throughput"))
    labels = redis.labels(key)
    assert ["device", "focus", "instance", "metric", "network", "type", "unit"] == sorted(labels)
    assert ("H200 -1g-18gb-", "? Ü") == (labels["device"], labels["focus"])


def test_a_series_that_redis_lost_is_made_again_with_its_labels(server: RedisServer, redis: Inspector) -> None:
    with writing(server.port) as series:
        series.add(record())
        wait_for(lambda: series.written == 7)
        redis.command("FLUSHALL")
        series.add(record(NOW + 1))
        wait_for(lambda: series.written == 14)

    assert "shop" == redis.labels(KEY + "throughput")["app"]


# Redis that is away, slow, full


def test_what_comes_while_redis_is_stopped_arrives_after_it(server: RedisServer, redis: Inspector) -> None:
    with writing(server.port) as series:
        series.add(record())
        wait_for(lambda: series.written == 7)
        server.stop()
        longest = add_all(series, [record(NOW + n, items=n) for n in range(1, 21)])
        wait_for(lambda: series.failed > 1)
        server.start()
        wait_for(lambda: series.pending == 0)

        assert longest < LONG_S
        assert (21 * 7, 0, True) == (series.written, series.dropped, series.connected)
    assert [float(n) for n in range(1, 21)] == values(redis, "dataset_size")


def test_what_comes_while_redis_hangs_arrives_after_it(server: RedisServer, redis: Inspector) -> None:
    with writing(server.port) as series:
        wait_for(lambda: series.connected)
        server.pause()
        longest = add_all(series, [record(NOW + n, items=n) for n in range(1, 21)])
        wait_for(lambda: series.failed > 0)
        server.resume()
        wait_for(lambda: series.pending == 0)

        assert longest < LONG_S
        assert (20 * 7, 0) == (series.written, series.dropped)
    assert [float(n) for n in range(1, 21)] == values(redis, "dataset_size")


def test_a_redis_that_comes_later_gets_what_was_before() -> None:
    server = FakeRedis()
    server.port = free_port()
    with mended_fakeredis(), writing(server.port) as series:
        series.add(record())
        wait_for(lambda: series.failed > 0)
        with running(server):
            wait_for(lambda: series.written == 7)


def test_the_oldest_go_where_the_buffer_is_full(server: RedisServer, redis: Inspector) -> None:
    server.stop()
    with writing(server.port, replace(CONFIG, buffer=70)) as series:
        add_all(series, [record(NOW + n, items=n) for n in range(1, 31)])
        wait_for(lambda: series.failed > 1)

        assert (70, 140) == (series.pending, series.dropped)
        server.start()
        wait_for(lambda: series.pending == 0)

        assert (70, 140) == (series.written, series.dropped)
    assert [float(n) for n in range(21, 31)] == values(redis, "dataset_size")


def test_a_full_redis_gets_the_points_when_it_has_room(real: RedisServer, real_redis: Inspector) -> None:
    real_redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", 1)
    with writing(real.port) as series:
        longest = add_all(series, [record(NOW + n) for n in range(50)])
        wait_for(lambda: series.failed > 2)

        assert longest < LONG_S
        assert (0, 350, False) == (series.written, series.pending, series.connected)
        real_redis.command("CONFIG", "SET", "maxmemory", 0)
        wait_for(lambda: series.written == 350)


def test_a_replica_gets_the_points_when_it_is_the_master(real: RedisServer, real_redis: Inspector) -> None:
    real_redis.command("REPLICAOF", HOST, free_port())
    with writing(real.port) as series:
        series.add(record())
        wait_for(lambda: series.failed > 2)

        assert (0, 7) == (series.written, series.pending)
        real_redis.command("REPLICAOF", "NO", "ONE")
        wait_for(lambda: series.written == 7)


def test_a_redis_without_the_module_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    require_real()
    with running(RealRedis(module=False)) as server, caplog.at_level(logging.INFO), writing(server.port) as series:
        add_all(series, [record(NOW + n) for n in range(50)])
        wait_for(lambda: series.failed > 2)

        assert (350, 0) == (series.pending, series.refused)
        said = [message for message in caplog.messages if "module" in message]
        assert 1 == len(said)


def test_a_wrong_password_is_an_outage_and_in_no_log(
    real: RedisServer, real_redis: Inspector, caplog: pytest.LogCaptureFixture
) -> None:
    real_redis.command("CONFIG", "SET", "requirepass", "right")
    config = replace(CONFIG, password="open sesame")
    with caplog.at_level(logging.DEBUG), writing(real.port, config) as series:
        series.add(record())
        wait_for(lambda: series.failed > 1)

        assert (7, False) == (series.pending, series.connected)
    assert "sesame" not in caplog.text + repr(config)


def test_a_password_opens(real: RedisServer, real_redis: Inspector) -> None:
    real_redis.command("CONFIG", "SET", "requirepass", "right")
    with writing(real.port, replace(CONFIG, password="right")) as series:
        series.add(record())
        wait_for(lambda: series.written == 7)


@pytest.mark.parametrize(
    "answer",
    [
        "-OOM command not allowed when used memory > 'maxmemory'.",
        "-READONLY You can't write against a read only replica.",
        "-LOADING Redis is loading the dataset in memory",
        "-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "-NOREPLICAS Not enough good replicas to write.",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "-CLUSTERDOWN The cluster is down",
        "-TRYAGAIN Multiple keys request during rehashing of slot",
        "-BUSY Redis is busy running a script.",
        "-NOAUTH Authentication required.",
        "-NOPERM User default has no permissions to run the 'ts.add' command",
        "-ERR unknown command 'TS.ADD', with args beginning with: ",
        "-ERR unknown command `TS.ADD`, with args beginning with: ",
        "-ERR max number of clients reached",
        "what is no Redis at all",
        "",
    ],
)
def test_a_fault_of_the_server_keeps_the_points(answer: str) -> None:
    config = replace(CONFIG, timeout_s=2 if answer else 0.05)
    with ScriptedRedis(answer).running() as server, writing(server.port, config) as series:
        series.add(record())
        wait_for(lambda: series.failed > 1)

        assert (0, 0, 7) == (series.written, series.refused, series.pending)
        server.answer = ":1"
        wait_for(lambda: series.written == 7)


@pytest.mark.parametrize(
    "answer",
    [
        "-WRONGTYPE Operation against a key holding the wrong kind of value",
        "-TSDB: Timestamp is older than retention",
        "-ERR TSDB: the key is not a TSDB key",
        "-MOVED 3999 127.0.0.1:6381",
    ],
)
def test_a_point_that_is_refused_for_its_own_sake_is_not_sent_again(answer: str) -> None:
    with ScriptedRedis(answer).running() as server, writing(server.port) as series:
        series.add(record())
        wait_for(lambda: series.refused == 7)

        assert (7, 0, 0, 0) == (server.asked, series.written, series.pending, series.failed)


def test_a_refused_point_does_not_stop_the_others(server: RedisServer, redis: Inspector) -> None:
    redis.command("SET", KEY + "throughput", "mine")
    with writing(server.port) as series:
        add_all(series, [record(), record(NOW + 1)])
        wait_for(lambda: series.written == 12)

        assert (2, 0) == (series.refused, series.pending)
    assert [4.0, 4.0] == values(redis, "dataset_size")


# The end


def test_close_writes_what_is_left(server: RedisServer, redis: Inspector) -> None:
    series = TimeSeries(replace(CONFIG, port=server.port), timing=TIMING)
    add_all(series, [record(NOW + n) for n in range(20)])
    series.start()
    series.close(5)

    assert (140, 0) == (series.written, series.pending)
    assert 20 == len(values(redis, "throughput"))


def test_close_ends_in_time_while_redis_hangs(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    before = set(threading.enumerate())
    series = TimeSeries(replace(CONFIG, port=server.port, timeout_s=30), timing=TIMING)
    series.start()
    wait_for(lambda: series.connected)
    (thread,) = (each for each in set(threading.enumerate()) - before if each.name == "timeseries")
    server.pause()
    series.add(record())
    begun = time.monotonic()
    series.close(0.1)
    seconds = time.monotonic() - begun
    server.resume()

    assert seconds < 2
    assert not thread.is_alive()
    assert 7 == series.pending
    assert ["The last points were not written"] == caplog.messages


def test_close_ends_in_time_while_redis_is_slow() -> None:
    before = set(threading.enumerate())
    series = TimeSeries(CONFIG, connect=Scripted("slow " * 200), timing=TIMING)
    add_all(series, [record(NOW + n) for n in range(1000)])
    series.start()
    series.close(0.05)

    assert series.pending > 0
    assert set() == set(threading.enumerate()) - before


def test_close_does_not_wait_for_the_next_turn(server: RedisServer) -> None:
    timing = replace(TIMING, wait=lambda event, seconds: event.wait(60))
    series = TimeSeries(replace(CONFIG, port=server.port), timing=timing)
    series.start()
    wait_for(lambda: series.connected)
    series.add(record())
    series.close(5)

    assert (7, 0) == (series.written, series.pending)


def test_close_says_how_many_points_are_lost(caplog: pytest.LogCaptureFixture) -> None:
    series = TimeSeries(CONFIG, connect=Unreachable, timing=TIMING)
    series.start()
    series.add(record())
    series.close(0.1)

    assert "The last points were not written" == caplog.messages[-1]
    assert 7 == caplog.records[-1].__dict__["forge_fields"]["pending"]


def test_close_without_start_is_nothing() -> None:
    TimeSeries(CONFIG, connect=Unreachable).close(1)


# The writer's patience


class Unreachable:
    """A connection to a Redis that is not there."""

    def open(self) -> None:
        raise Outage("connection", "Connection refused")

    def send(self, commands: Sequence[bytes]) -> Sequence[Result]:
        raise AssertionError("sent without a connection")

    def close(self) -> None:
        pass


class Scripted:
    """A connection that does what it is told, a word for each time that something is sent; then all is done."""

    def __init__(self, script: str) -> None:
        self.sent: list[list[bytes]] = []
        self.opened = 0
        self.closed = 0
        self.gate = threading.Event()
        self._script = script.split()

    def __call__(self) -> Connection:
        return self

    def open(self) -> None:
        self.opened += 1

    def send(self, commands: Sequence[bytes]) -> Sequence[Result]:
        self.sent.append(list(commands))
        word = self._script.pop(0) if self._script else "done"
        if word == "hang":
            self.gate.wait(10)
        if word == "slow":
            self.gate.wait(0.01)
        if word == "bug":
            raise KeyError("on purpose")
        lost = Outage("module" if word == "module" else "connection", "on purpose")
        taken: list[Result] = [None] * 3
        results: dict[str, list[Result]] = {
            "half": [*taken, *[lost] * (len(commands) - 3)],
            "module": [lost] * len(commands),
            "lost": [lost] * len(commands),
            "hang": [lost] * len(commands),
            "refused": [Refusal("TSDB: on purpose")] * len(commands),
            "short": [None],
        }
        return results.get(word, [None] * len(commands))

    def close(self) -> None:
        self.closed += 1


class Patience:
    """Notes how long a writer waits after each failure, and does not wait so long."""

    def __init__(self, *, jitter: float = 1.0, pace: float = 0.0) -> None:
        self.delays: list[float] = []
        self._time = 0.0
        self._pace = pace
        self.timing = Timing(now=lambda: START / 1000, monotonic=self.tick, wait=self.wait, jitter=lambda: jitter)

    def tick(self) -> float:
        self._time += self._pace
        return self._time

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.delays.append(seconds)
        return event.wait(0.001)


def follow(
    connect: Callable[[], Connection], patience: Patience, until: Callable[[TimeSeries], bool], count: int = 1
) -> TimeSeries:
    """Write `count` records until a condition holds."""
    series = TimeSeries(CONFIG, connect=connect, timing=patience.timing)
    add_all(series, [record(NOW + n) for n in range(count)])
    series.start()
    wait_for(lambda: until(series))
    series.close(1)
    return series


def test_it_tries_ever_less_often_but_at_least_every_half_minute() -> None:
    patience = Patience()
    follow(Unreachable, patience, lambda series: series.failed > 12)

    assert [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30, 30] == patience.delays[:11]


def test_the_wait_is_a_random_part_of_the_longest() -> None:
    patience = Patience(jitter=0.25)
    follow(Unreachable, patience, lambda series: series.failed > 12)

    assert [0.05, 0.1, 0.2] == patience.delays[:3]
    assert 7.5 == patience.delays[10]


def test_an_outage_that_comes_and_goes_is_met_as_one() -> None:
    patience = Patience()
    follow(Scripted("lost done lost done lost"), patience, lambda series: series.pending == 0, count=28)

    failures = [delay for delay in patience.delays if delay != pytest.approx(0.2)]
    assert [0.4, 0.8] == failures[:2]


def test_an_outage_after_a_calm_minute_is_the_first_again() -> None:
    patience = Patience(pace=61)
    follow(Unreachable, patience, lambda series: series.failed > 3)

    assert [0.2, 0.2, 0.2] == patience.delays[:3]


def test_a_missing_module_is_not_looked_for_in_haste() -> None:
    patience = Patience()
    follow(Scripted("module"), patience, lambda series: series.written == 7)

    assert 30 == patience.delays[0]


def test_points_that_were_taken_before_an_outage_are_not_sent_again() -> None:
    connection = Scripted("half")
    series = follow(connection, Patience(), lambda series: series.written == 7)

    first, second = connection.sent
    assert first[3:] == second
    assert 1 == series.failed


def test_points_keep_their_order_over_an_outage() -> None:
    connection = Scripted("lost")
    follow(connection, Patience(), lambda series: series.written == 7)

    first, second = connection.sent
    assert first == second


def test_a_connection_is_closed_after_an_outage() -> None:
    connection = Scripted("lost lost")
    follow(connection, Patience(), lambda series: series.written == 7)

    assert (3, 3) == (connection.opened, connection.closed)


def test_points_that_are_being_sent_count_as_waiting() -> None:
    connection = Scripted("hang")
    series = TimeSeries(replace(CONFIG, buffer=14), connect=connection, timing=TIMING)
    series.add(record())
    series.start()
    wait_for(lambda: len(connection.sent) == 1)
    add_all(series, [record(NOW + 1), record(NOW + 2)])
    hanging = (series.pending, series.dropped)
    connection.gate.set()
    wait_for(lambda: series.pending == 0)
    series.close(1)

    assert (14, 7) == hanging
    assert (14, 7) == (series.written, series.dropped)


def test_points_are_sent_in_parts() -> None:
    connection = Scripted("")
    follow(connection, Patience(), lambda series: series.written == 140, count=20)

    assert [64, 64, 12] == [len(each) for each in connection.sent]


@pytest.mark.parametrize("fault", ["bug", "short"])
def test_no_fault_of_ours_ends_the_thread_or_loses_a_point(fault: str) -> None:
    series = follow(Scripted(f"{fault} {fault}"), Patience(), lambda series: series.written == 7)

    assert (2, 0, 0) == (series.failed, series.dropped, series.pending)


def test_a_change_is_logged_once_and_not_each_point(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        connection = Scripted("done lost lost done lost lost refused refused")
        follow(connection, Patience(), lambda series: series.pending == 0, count=40)

    said = [message.partition(":")[0] for message in caplog.messages]
    refused = [f"Redis refuses points of `{metric}`" for metric in METRICS]
    back, gone = "Redis takes points", "Redis takes no points"
    assert [back, gone, back, gone] == [each for each in said if each not in refused][:4]
    assert sorted([back, gone, back, gone, back, *refused]) == sorted(said)


def test_a_missing_library_is_an_error_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(StartError, match="Library `redis` is not in this image"):
        TimeSeries(CONFIG)
