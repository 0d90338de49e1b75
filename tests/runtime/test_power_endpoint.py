"""`/api/power` of a server that serves meanwhile."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from forge_runtime.power.discovery import Found
from tests.runtime.fake import Client, FakeBackend, Reply, make_config, serving, wait_for
from tests.runtime.power_fake import FakeReader

QUICK = {"duration_s": 0.2, "cooldown_s": 0, "ramp_s": 0, "interval_s": 0.02}
LONG = {**QUICK, "duration_s": 60, "interval_s": 0.1}


def sensors() -> Found:
    return Found((FakeReader(lambda seconds: 42.0, time.monotonic),))


def none() -> Found:
    return Found((), {"rapl": "There is none"})


def measure(client: Client, settings: object = QUICK) -> Reply:
    return client.send("POST", "/api/power", json.dumps(settings).encode())


def is_measuring(client: Client) -> bool:
    return '"measuring":true' in client.get("/api/power").body.decode()


def test_every_phase_has_its_samples() -> None:
    with serving(FakeBackend(), sensors=sensors) as client:
        client.infer("one")
        phases = measure(client).json

        assert isinstance(phases, dict)
        assert set(phases) == {"idle", "preprocess", "inference", "postprocess"}
        assert all(phase["indexes"] > 2 and phase["mean_w"] == 42 for phase in phases.values())
        assert all(phases[name]["iterations"] > 0 for name in ("preprocess", "inference", "postprocess"))


def test_without_a_request_there_is_nothing_to_repeat() -> None:
    with serving(FakeBackend(), sensors=sensors) as client:
        phases = measure(client).json

        assert isinstance(phases, dict)
        assert phases["idle"]["mean_w"] == 42
        assert phases["inference"] is None
        assert "No request" in json.dumps(phases["reason"])


def test_without_a_sensor_it_is_null_and_says_why() -> None:
    with serving(FakeBackend(), sensors=none) as client:
        client.infer("one")

        assert measure(client).json == {
            **dict.fromkeys(("idle", "preprocess", "inference", "postprocess")),
            "reason": {"all": "rapl: There is none"},
        }
        assert client.get("/api/power").json == {"watts": None, "reason": "rapl: There is none", "measuring": False}
        assert "forge_power_watts{" not in client.get("/metrics").body.decode()


def test_present_power_is_shown_and_exposed() -> None:
    with serving(FakeBackend(), sensors=sensors) as client:
        wait_for(lambda: client.metric('forge_power_watts{rail="total"}') == 42)

        watts = client.get("/api/power").json
        assert isinstance(watts, dict)
        assert watts["watts"]["total"] == 42


def test_requests_are_served_meanwhile_and_a_second_measurement_is_refused() -> None:
    with serving(FakeBackend(), sensors=sensors) as client, ThreadPoolExecutor(1) as pool:
        client.infer("one")
        measured = pool.submit(measure, client, {**QUICK, "duration_s": 0.4})
        wait_for(lambda: is_measuring(client))

        assert measure(client).error["code"] == "busy"
        answers = [client.infer("two").status for _ in range(20)]

        assert answers == [200] * 20
        assert not measured.done()
        assert measured.result().status == 200


def test_a_request_breaks_off_the_dummy_that_runs() -> None:
    backend = FakeBackend()
    with serving(backend, sensors=sensors) as client, ThreadPoolExecutor(1) as pool:
        backend.gate.set()
        client.infer("!wait")
        backend.gate.clear()
        backend.running.clear()
        measured = pool.submit(measure, client, {**QUICK, "duration_s": 0.5})
        assert backend.running.wait(10)

        assert client.infer("two").json == {"two": "TWO"}
        backend.gate.set()
        assert measured.result().status == 200


def test_it_ends_when_the_server_stops() -> None:
    with serving(FakeBackend(), sensors=sensors) as client, ThreadPoolExecutor(1) as pool:
        measured = pool.submit(measure, client, LONG)
        wait_for(lambda: is_measuring(client))
        client.stop()
        started = time.monotonic()
        measured.exception(timeout=20)

        assert time.monotonic() - started < 10


def test_it_ends_when_the_client_leaves() -> None:
    with serving(FakeBackend(), sensors=sensors) as client:
        body = json.dumps(LONG).encode()
        asked = b"POST /api/power HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        with socket.create_connection(("127.0.0.1", client.port)) as connection:
            connection.sendall(asked)
            wait_for(lambda: is_measuring(client))

        wait_for(lambda: not is_measuring(client))


@pytest.mark.parametrize(
    ("body", "param"), [(b'{"duration_s": -1}', "duration_s"), (b'{"duration": 1}', None), (b"{", None)]
)
def test_wrong_settings_are_refused(body: bytes, param: str | None) -> None:
    with serving(FakeBackend(), sensors=sensors) as client:
        reply = client.send("POST", "/api/power", body)

        assert (reply.status, reply.error["param"]) == (400, param)


def test_with_a_token_it_asks_for_it() -> None:
    config = make_config(server={"admin_token": "t0ken"})  # type: ignore[dict-item]
    with serving(FakeBackend(), config, sensors=sensors) as client:
        assert measure(client).status == 401
