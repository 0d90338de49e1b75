"""What the predecessors' servers got wrong, one test for each defect of the list: the case that failed there.

The suites beside this one go further into each. Not here: what concerns building, converting and deploying
(D19, D22 to D29, D31).
"""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from forge_client.cli import main
from forge_runtime import BaseServer, LoadError, Request, log
from forge_runtime.backend import Outcome, Progress, Prompt
from forge_runtime.config import Config, ModelConfig, Params, RedisConfig
from forge_runtime.config_file import parse
from forge_runtime.device import check_accelerator, show_only
from forge_runtime.error import ConfigError, RequestError
from forge_runtime.power.discovery import Found
from forge_runtime.power.reader import SensorError
from forge_runtime.vision import ImageClassifier
from tests.runtime.fake import Client, FakeBackend, Reply, make_config, serving, wait_for
from tests.runtime.power_fake import FakeReader
from tests.runtime.redis_server import FakeRedis, Inspector, free_port, mended_fakeredis
from tests.runtime.test_inference import TensorFake, Tensors
from tests.runtime.test_vision import FakeTensors, loaded, picture, zipped

CONFIG = '{"schema": 1, "platform": "cpu_llm_trf", "backend": "transformers", "model": {"name": "m", "path": "/m"}}'
SECRET = "t0ken-7f31"
PHASES = {"duration_s": 0.1, "cooldown_s": 0, "ramp_s": 0, "interval_s": 0.02}
MOST = 6
"""Samples of a phase: one an interval, and one more."""


@pytest.fixture(scope="module")
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture(scope="module")
def client(backend: FakeBackend) -> Iterator[Client]:
    with serving(backend) as client:
        yield client


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A handler's folder, with the labels of FakeTensors."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "labels.txt").write_text("red\ngreen\nblue\ndark\n")
    return folder


@pytest.fixture(scope="module")
def pictures(folder: Path) -> Iterator[Client]:
    with serving(FakeTensors(), at(folder), handler=ImageClassifier) as client:
        yield client


def at(folder: Path) -> Config:
    config = make_config(params=Params(batch_size=4))
    return replace(config, server=replace(config.server, app_dir=folder))


class Marking(BaseServer):
    """Has a preprocess of its own."""

    def preprocess(self, request: Request) -> Request:
        return replace(request, prompts=tuple(f"<{prompt}>" for prompt in request.prompts))


@pytest.fixture(scope="module")
def slow_backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture(scope="module")
def one_by_one(slow_backend: FakeBackend) -> Iterator[Client]:
    """A server in latency mode."""
    config = make_config()
    config = replace(config, server=replace(config.server, mode="latency"))
    with serving(slow_backend, config, handler=Marking) as client:
        yield client


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def post(client: Client, path: str, value: object = None, token: str = "") -> Reply:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return client.send("POST", path, b"" if value is None else json.dumps(value).encode(), headers)


def is_served(client: Client) -> bool:
    return client.infer("good").json == {"good": "GOOD"}


def leave(client: Client, prompt: str, backend: FakeBackend) -> None:
    """Ask, and hang up once the model works on it."""
    body = json.dumps({"prompts": prompt}).encode()
    head = b"POST /api/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", client.port)) as peer:
        peer.sendall(head + body)
        assert backend.running.wait(5)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/infer", {"prompts": 5}, 400),
        ("/api/infer", {"prompts": [["a"]]}, 400),
        ("/api/metrics", {}, 400),
        ("/api/metrics", {"all": "False"}, 400),
        ("/api/metrics", {"all": True}, 200),
    ],
    ids=["prompts=5", "nested", "no number", "no number but all", "all: true"],
)
def test_d01_a_bad_request_does_not_end_the_worker(client: Client, path: str, body: object, status: int) -> None:
    """Any exception in the worker kills it; that request and every later one hang for ever."""
    assert post(client, path, body).status == status
    assert is_served(client)


def test_d01_two_prompts_in_latency_mode_do_not_end_the_worker(one_by_one: Client) -> None:
    """LAT asserts that there is one item, and the assertion kills the worker."""
    assert one_by_one.infer("a", "b").json == {"a": "<A>", "b": "<B>"}
    assert one_by_one.infer("c").json == {"c": "<C>"}


def test_d01_an_unknown_mode_ends_the_start() -> None:
    """A SERVER_MODE that is none becomes None, and fails with the first request."""
    with pytest.raises(ConfigError, match="SERVER_MODE"):
        parse(CONFIG, {"SERVER_MODE": "fast"})


def test_d02_a_failed_load_ends_the_process_and_nothing_hangs_until_then() -> None:
    """An init failure leaves HTTP up and hanging; no readiness."""
    looked = threading.Event()

    def load() -> None:
        assert looked.wait(10)
        raise LoadError("no weights")

    with serving(FakeBackend(load=load), ready=False) as client:
        replies = [client.get("/healthz"), client.get("/readyz"), client.infer("one")]
        looked.set()
        wait_for(lambda: bool(client.status))

        assert [reply.status for reply in replies] == [200, 503, 503]
        assert client.status == [1]


def test_d03_what_is_the_clients_fault_is_a_400_with_an_error_body(client: Client) -> None:
    """Client errors are asserts, never 4xx; a wrong metrics body gets the text `number` as JSON."""
    reply = post(client, "/api/metrics", {"all": "False", "number": "2"})

    assert (reply.status, reply.headers["content-type"]) == (400, "application/json")
    assert (reply.error["param"], reply.error["type"]) == ("number", "invalid_request_error")


def test_d04_the_queue_is_bounded_and_what_nobody_waits_for_is_never_run(pool: ThreadPoolExecutor) -> None:
    """Unbounded queue, unbounded wait; abandoned requests are executed all the same."""
    backend = FakeBackend()
    config = make_config(server={"queue_size": 1}, params=Params(batch_size=1, max_length=128))
    with serving(backend, config) as client:
        held = pool.submit(client.infer, "!wait")
        assert backend.running.wait(5)
        asked = ("POST", "/api/infer", b'{"prompts": "abandoned"}', {"x-request-timeout": "0.2"})
        abandoned = pool.submit(client.send, *asked)
        wait_for(lambda: client.metric("forge_queue_depth") == 1)
        refused = client.infer("late")
        timed_out = abandoned.result()
        wait_for(lambda: client.metric("forge_queue_depth") == 0)
        backend.gate.set()

        assert (refused.status, timed_out.status, held.result().status) == (429, 504, 200)
        assert "retry-after" in refused.headers
        assert is_served(client)
        assert ("abandoned",) not in backend.batches


def test_d05_nothing_is_left_of_a_client_that_leaves_and_each_gets_its_own(pool: ThreadPoolExecutor) -> None:
    """The results' dict is popped outside the lock; a result for a client that left is never removed."""
    backend = FakeBackend()
    with serving(backend) as client:
        leave(client, "!wait", backend)
        assert backend.cancelled.wait(5)
        wait_for(lambda: client.metric("forge_requests_in_flight") == 0)
        names = [f"p{number}" for number in range(32)]
        answers = [reply.json for reply in pool.map(client.infer, names)]

        assert answers == [{name: name.upper()} for name in names]
        wait_for(lambda: client.metric("forge_requests_in_flight") == 0)


def test_d06_without_a_redis_requests_are_served_and_none_is_claimed(caplog: pytest.LogCaptureFixture) -> None:
    """SEND_METRICS kills the worker with the first request; `Created Redis connection` without a server."""
    caplog.set_level(logging.INFO)
    config = replace(make_config(), redis=RedisConfig(send=True, port=free_port()))
    with serving(FakeBackend(), config) as client:
        assert [is_served(client), is_served(client)] == [True, True]
        assert client.metric('forge_redis_points{state="pending"}') > 0

    assert "Redis takes points" not in caplog.text


def test_d06_points_stand_at_times_since_the_epoch() -> None:
    """TF2AIF's timestamps are a monotonic clock's, so that an instance's id comes again after a reboot."""
    server = FakeRedis()
    server.start()
    inspector = Inspector(server.port)
    before = int(time.time() * 1000)
    try:
        config = replace(make_config(), redis=RedisConfig(send=True, port=server.port))
        with mended_fakeredis(), serving(FakeBackend(), config) as client:
            client.infer("one")
            wait_for(lambda: client.metric('forge_redis_points{state="written"}') > 0)
        key = next(key for key in inspector.series() if key.endswith(":processing_latency"))
        times = [int(key.split(":")[-2]), *(at for at, _ in inspector.samples(key))]
    finally:
        inspector.close()
        server.stop()

    assert len(times) == 2
    assert all(before <= each <= time.time() * 1000 for each in times)


def test_d07_prompts_that_are_alike_are_all_answered(client: Client) -> None:
    """Duplicate prompts collapse: 321 prompts, 320 answers."""
    assert client.infer("a", "b", "a").json == {"a": ["A", "A"], "b": "B"}


def test_d08_gen_acts_or_is_refused(client: Client, backend: FakeBackend) -> None:
    """`gen` is silently ignored."""
    client.infer("a", gen={"max_new_tokens": 5, "do_sample": True, "temperature": 0.5})
    sampling = backend.samplings[-1]
    refused = client.infer("a", gen={"max_tokens": 5})

    assert (sampling.max_new_tokens, sampling.do_sample, sampling.temperature) == (5, True, 0.5)
    assert (refused.status, refused.error["param"]) == (400, "gen.max_tokens")


def test_d09_latency_mode_gives_the_model_preprocessed_text(one_by_one: Client, slow_backend: FakeBackend) -> None:
    """LAT hands the engine a numpy array instead of a str, and skips platform_preprocess."""
    one_by_one.infer("a")

    assert slow_backend.batches[-1] == ("<a>",)
    assert type(slow_backend.batches[-1][0]) is str


class Noting(FakeBackend):
    """Remembers how it was to be loaded."""

    def load(self, model: ModelConfig, params: Params) -> None:
        self.params = params


def test_d10_precision_and_threads_reach_the_backend() -> None:
    """PRECISION and NUM_THREADS have no effect."""
    backend = Noting()
    params = parse(CONFIG, {"PRECISION": "BF16", "NUM_THREADS": "3"}).params
    BaseServer(make_config(params=params), backend).load()

    assert (backend.params.precision, backend.params.num_threads) == ("bf16", 3)


def test_d10_precision_and_threads_act_in_transformers(tmp_path: Path) -> None:
    """torch_dtype is given to pipeline() with a model that is loaded already."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.runtime.test_transformers_backend import load, make_model

    model = make_model(tmp_path, seed=1)
    threads = torch.get_num_threads()
    try:
        facts = load(model, precision="bf16", num_threads=2).describe()
    finally:
        torch.set_num_threads(threads)

    assert (facts["precision"], facts["threads"]) == ("bfloat16", 2)


def test_d11_the_device_index_acts_and_is_the_first_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPU_DEVICE_INDEX is ignored, and the default is the second GPU."""
    chosen = parse(CONFIG, {"GPU_DEVICE_INDEX": "1"}).params
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    show_only(chosen.device_index)

    assert (chosen.device_index, parse(CONFIG, {}).params.device_index) == (1, 0)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    assert check_accelerator(chosen, ["one", "two"])
    with pytest.raises(LoadError, match="No accelerator `1`"):
        check_accelerator(chosen, ["one"])


COUNTING_S = 0.05


class Counting(FakeBackend):
    """Takes its time to count tokens."""

    def generate(self, prompts: Sequence[Prompt], progress: Progress) -> Sequence[Outcome]:
        outcomes = super().generate(prompts, progress)
        time.sleep(COUNTING_S)
        return outcomes


def test_d12_tokens_are_not_counted_at_the_expense_of_postprocess() -> None:
    """Token counting runs inside postprocess, and is charged to postprocessing_latency."""
    with serving(Counting()) as client:
        client.infer("one")
        *_, entry = entries(client)

    assert entry["generated_tokens"] == 2
    assert entry["inference_latency"] >= COUNTING_S > entry["postprocessing_latency"]


def entries(client: Client) -> list[dict[str, Any]]:
    """What `/api/metrics` tells of the requests that were answered."""
    document = post(client, "/api/metrics", {"all": "True"}).json
    assert isinstance(document, list)
    return document[3:]


def test_d13_a_measurement_ends_though_its_sensor_is_gone_and_holds_no_more_than_it_may() -> None:
    """If the scraper dies the dummy thread never ends, and the server hangs; an unbounded list of samples."""
    gone = threading.Event()

    def watts(seconds: float) -> float:
        if gone.is_set():
            raise SensorError("It is gone")
        return 42.0

    with serving(FakeBackend(), sensors=lambda: Found((FakeReader(watts, time.monotonic),))) as client:
        client.infer("one")
        measured = post(client, "/api/power", PHASES).json
        gone.set()
        lost = post(client, "/api/power", PHASES).json
        assert isinstance(measured, dict)
        assert isinstance(lost, dict)

        assert all(0 < phase["indexes"] <= MOST for phase in measured.values())
        assert (lost["idle"], lost["postprocess"]) == (None, None)
        assert "It is gone" in json.dumps(lost["reason"])
        assert is_served(client)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Client]:
    """A server that asks for a token; it logs into its tail, as the process does."""
    server: dict[str, Any] = {"logs": True, "shutdown": True, "admin_token": SECRET}
    config = replace(make_config(server=server), redis=RedisConfig(password=SECRET))
    root, tail = logging.getLogger(), log.Tail()
    level = root.level
    root.addHandler(tail)
    root.setLevel(logging.INFO)
    with serving(FakeBackend(), config, tail=tail) as client:
        yield client
    root.removeHandler(tail)
    root.setLevel(level)


def test_d14_the_log_is_a_tail_without_secrets(guarded: Client) -> None:
    """The whole log is returned, with all configuration in it."""
    for _ in range(5):
        guarded.infer("one")
    lines = post(guarded, "/api/logs", {"lines": 2}, SECRET).body.decode().splitlines()
    everything = post(guarded, "/api/logs", {}, SECRET).body.decode()

    assert len(lines) == 2
    assert len(everything.splitlines()) > 5
    assert SECRET not in everything + post(guarded, "/api/metrics", {"all": True}).body.decode()


def test_d15_nobody_unknown_can_end_the_server_or_read_its_log(client: Client, guarded: Client) -> None:
    """Unauthenticated shutdown, power and logs on 0.0.0.0."""
    wrong = [post(guarded, f"/api/{name}", {}, "wrong").status for name in ("logs", "shutdown", "power")]
    unasked = [post(client, f"/api/{name}", {}).status for name in ("logs", "shutdown")]

    assert (wrong, unasked) == ([401] * 3, [404] * 2)
    assert [is_served(guarded), is_served(client)] == [True, True]


def test_d16_an_empty_request_is_refused(client: Client, pictures: Client) -> None:
    """An empty list fails in concatenate, or its length is divided by; the worker is gone."""
    replies = [client.post(body) for body in (b"", b'{"prompts": []}')]
    replies += [send(pictures, body) for body in (b"", zipped({}))]

    assert [reply.status for reply in replies] == [400] * 4
    assert is_served(client)
    assert likeliest(send(pictures, picture("red"))) == {"image": "red"}


def send(client: Client, body: bytes) -> Reply:
    return client.post(body, "application/octet-stream")


def likeliest(reply: Reply) -> dict[str, str]:
    answer = reply.json
    assert isinstance(answer, dict)
    return {name: classes[0][1] for name, classes in answer.items()}


def test_d17_results_keep_their_shape() -> None:
    """concatenate(predict()) makes (N, C) to (N*C,)."""
    inputs = [{"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}]
    with serving(TensorFake(), handler=Tensors) as client:
        answer = post(client, "/v2/models/tiny/infer", {"inputs": inputs}).json
        assert isinstance(answer, dict)

    assert {"sum": [2], "double": [2, 3]} == {each["name"]: each["shape"] for each in answer["outputs"]}


def test_d18_a_batch_is_filled_up_with_what_the_model_takes(folder: Path) -> None:
    """A partial batch mixes float32 zeros with uint8 data; the warm-up's type is fixed in the code."""
    backend = FakeTensors(batch=4, dtype="uint8")
    with serving(backend, at(folder), handler=ImageClassifier) as client:
        answers = likeliest(send(client, zipped({name: picture(name) for name in ("red", "green", "blue")})))

    assert answers == {"red": "red", "green": "green", "blue": "blue"}
    assert {shape[0] for shape in backend.batches} == {4}


class Quantised(ImageClassifier):
    """Makes -128 to 254.5 of pixels, more than int8 holds."""

    scale = 1.5
    mean = (128.0, 128.0, 128.0)


def test_d18_pixels_are_rounded_and_kept_within_the_models_whole_numbers(folder: Path) -> None:
    """Quantising is a cast without round or clip: int8 wraps around."""
    body = io.BytesIO()
    Image.new("RGB", (8, 8), (255, 0, 101)).save(body, "PNG")
    lifecycle = loaded(FakeTensors(dtype="int8"), at(folder), Quantised)

    pixels = lifecycle.preprocess(lifecycle.decode(body.getvalue(), "")).pixels

    assert [127, -128, 24] == [int(channel.flat[0]) for channel in pixels[0]]


def test_d20_pictures_of_requests_do_not_mix_and_a_bad_one_leaves_nothing(
    pictures: Client, pool: ThreadPoolExecutor
) -> None:
    """A temporary folder that requests share; None for a bad picture; RGB written as BGR."""
    bad = send(pictures, zipped({"red": picture("red"), "bad": b"no picture"}))
    colours = ["red", "green", "blue"] * 4
    answers = pool.map(lambda colour: likeliest(send(pictures, zipped({"same": picture(colour)}))), colours)

    assert (bad.status, bad.error["code"]) == (400, "not_a_picture")
    assert list(answers) == [{"same": colour} for colour in colours]


def test_d21_metrics_tell_of_whole_requests_alone(pool: ThreadPoolExecutor) -> None:
    """Timings are changed in place and shared: those of a request are seen half written."""
    backend = FakeBackend()
    with serving(backend) as client:
        client.infer("one")
        (first,) = entries(client)
        held = pool.submit(client.infer, "!wait")
        assert backend.running.wait(5)
        meanwhile = entries(client)
        backend.gate.set()
        held.result()
        after = entries(client)

    assert meanwhile == [first]
    assert after[0] == first
    assert [set(each) for each in after] == [set(first)] * 2


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_d30_the_client_takes_the_predecessors_variables_and_its_files_are_its_owners(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DATASET_SIZE=Default is given to int(); files with `:` in their names, chmod 777."""
    (tmp_path / "prompts.json").write_text('{"prompts": ["one", "two"]}')
    for name, value in {"DATASET_SIZE": "Default", "DATASET": str(tmp_path / "prompts.json")}.items():
        monkeypatch.setenv(name, value)
    status = main(["infer", f"http://127.0.0.1:{client.port}", "--to", str(tmp_path / "answers.json"), "--quiet"])
    answers = json.loads((tmp_path / "answers.json").read_bytes())

    assert status == 0
    assert [answers["one"]["text"], answers["two"]["text"]] == ["ONE", "TWO"]
    assert not (tmp_path / "answers.json").stat().st_mode & stat.S_IWOTH
    assert sorted(os.listdir(tmp_path)) == ["answers.json", "prompts.json"]


def test_d30_the_client_does_not_wait_for_ever(silent: int, capsys: pytest.CaptureFixture[str]) -> None:
    """No HTTP timeout."""
    assert main(["metrics", f"http://127.0.0.1:{silent}", "--timeout", "0.2"]) != 0
    assert "within 0.2 s" in capsys.readouterr().err


class Busy(BaseServer):
    """Takes no request."""

    def preprocess(self, request: Request) -> Request:
        raise RequestError("Not now", status=503, code="busy")


def test_d30_the_client_tries_again_as_often_as_it_is_told() -> None:
    """It tries again for ever."""
    with serving(FakeBackend(), handler=Busy) as client:
        status = main(["infer", f"http://127.0.0.1:{client.port}", "--prompt", "a", "--retries", "1", "--quiet"])

        assert status == 1
        assert client.metric('forge_requests_total{path="/api/infer",status="503"}') == 2
