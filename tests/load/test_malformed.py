"""Ten thousand requests that are wrong: each is refused, and the next good one answered."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.serving_client import Connection, Lost, Reply, get, infer, post
from benchmarks.serving_process import MODEL, Server, serving
from tests.load.fuzz import Case, bodies, broken
from tests.load.schema import Endpoint, endpoints, example

pytestmark = pytest.mark.load

SEED = 20261121
COUNT = 10_000
BROKEN = 8
"""One in so many is no HTTP at all."""
AT_ONCE = 8
EACH = 100
"""Bad ones before a good one on the same connection."""
TIMEOUT_S = 10.0
TOKEN = "load"
HEADERS = {"authorization": f"Bearer {TOKEN}"}
HANDLER = """\
from forge_runtime.vision import ImageClassifier

class Handler(ImageClassifier):
    labels = None
"""
TENSORS = post(
    f"/v2/models/{MODEL}/infer",
    {"inputs": [{"name": "x", "shape": [1, 3, 4, 4], "datatype": "FP32", "data": [0.5] * 48}]},
)


@pytest.fixture(scope="module")
def texts() -> Iterator[Server]:
    with serving(
        server={"logs": True, "shutdown": True},
        params={"batch_size": 8, "batch_wait_ms": 0},
        environ={"FORGE_ADMIN_TOKEN": TOKEN, "FAKE_CALL_MS": "0"},
    ) as server:
        yield server


def write_handler(folder: Path) -> None:
    (folder / "handler.py").write_text(HANDLER)


@pytest.fixture(scope="module")
def tensors() -> Iterator[Server]:
    with serving(
        server={"handler": "handler.py"},
        environ={"FORGE_ADMIN_TOKEN": TOKEN},
        backend='IsolatedTensors("benchmarks.fake_tensors")',
        name="onnxruntime",
        prepare=write_handler,
    ) as server:
        yield server


def test_whatever_a_text_service_is_sent_is_refused(texts: Server) -> None:
    faults = asyncio.run(attack(texts.port, COUNT * 6 // 10, infer("good")))

    assert "" == "\n".join(faults + texts.errors())


def test_whatever_a_tensor_service_is_sent_is_refused(tensors: Server) -> None:
    faults = asyncio.run(attack(tensors.port, COUNT * 4 // 10, TENSORS))

    assert "" == "\n".join(faults + tensors.errors())


def test_every_endpoint_that_takes_a_body_is_known(texts: Server, tensors: Server) -> None:
    paths = {each.path for server in (texts, tensors) for each in asyncio.run(targets(server.port))}

    assert paths >= {
        "/api/infer",
        "/api/metrics",
        "/api/logs",
        "/api/shutdown",
        "/api/power",
        "/v1/completions",
        "/v1/chat/completions",
        f"/v2/models/{MODEL}/infer",
    }


@pytest.mark.parametrize("path", ["/api/infer", "/v1/completions", "/v1/chat/completions"])
def test_what_the_requests_are_made_from_is_right(texts: Server, path: str) -> None:
    schema = next(each.schema for each in asyncio.run(targets(texts.port)) if each.path == path)

    assert 200 == asyncio.run(once(texts.port, post(path, example(schema)))).status


async def targets(port: int) -> Sequence[Endpoint]:
    return endpoints((await get(port, "/openapi.json")).json)


async def once(port: int, data: bytes) -> Reply:
    connection = Connection(port)
    try:
        return await connection.ask(data)
    finally:
        connection.close()


async def attack(port: int, count: int, good: bytes) -> list[str]:
    """Send `count` cases, some at a time, and say what was wrong with the answers."""
    found = await targets(port)
    each = -(-count // len(found))
    cases = [case for endpoint in found for case in broken(endpoint, each // BROKEN, SEED)]
    cases += [case for endpoint in found for case in bodies(endpoint, each - each // BROKEN, SEED, HEADERS)]
    random.Random(SEED).shuffle(cases)
    left = iter(cases)
    faults = Counter[str]()
    for some in await asyncio.gather(*(send(port, left, good) for _ in range(AT_ONCE))):
        faults.update(some)

    assert len(cases) >= 0.95 * count
    return [f"{times} times {fault}" for fault, times in faults.most_common(30)]


async def send(port: int, cases: Iterator[Case], good: bytes) -> list[str]:
    """Take cases as long as there are any, each followed by the next on the same connection where HTTP has it so."""
    connection = Connection(port)
    faults = []
    for number, case in enumerate(cases):
        try:
            if case.framed:
                connection.close()
            faults += judge(case, await connection.ask(case.data, TIMEOUT_S))
            if number % EACH == 0 and (reply := await connection.ask(good)).status != 200:
                faults.append(f"{case.kind} {case.path}: then a good one gets {reply.status}")
        except (Lost, TimeoutError) as error:
            faults.append(f"{case.kind} {case.path}: {error!r}")
            connection.close()
    connection.close()
    return faults


def judge(case: Case, reply: Reply) -> list[str]:
    if reply.status == 200 and not case.refused:
        return []
    if not 400 <= reply.status < 500:
        return [f"{case.kind} {case.path}: {reply.status} {reply.body[:80]!r}"]
    try:
        value = reply.json
        right = isinstance(value["error"], str) or set(value["error"]) == {"message", "type", "param", "code"}
    except (ValueError, KeyError, TypeError):
        right = False
    kept = case.framed or reply.headers.get("connection") != "close"
    return [
        *([] if right else [f"{case.kind} {case.path}: {reply.status} without an error body: {reply.body[:80]!r}"]),
        *([] if kept else [f"{case.kind} {case.path}: the connection is closed"]),
    ]
