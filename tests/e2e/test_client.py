"""A real service under load: from forge, and from the image of its client."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import IMAGE, copy_workspace
from tests.e2e.program import Forge, alive, descendants
from tests.e2e.service import Service, free_port

pytestmark = pytest.mark.e2e

CLIENT = "//tiny_gpt2:client"


@pytest.fixture(scope="module")
def forge(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """A service and its client, built."""
    workspace = tmp_path_factory.mktemp("client") / "workspace"
    copy_workspace(workspace, whole=True)
    home = os.environ.get("FORGE_E2E_HOME")
    found = Forge(checkout, workspace, {"FORGE_HOME": home} if home else {})
    found("build", IMAGE, CLIENT)
    yield found
    found("clean")


def test_an_image_is_served_measured_and_stopped(forge: Forge, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = [
        "--concurrency=1,2",
        "--requests=6",
        "--max-tokens=4",
        "--server-metrics",
        f"--html={page}",
        "--output=json",
    ]
    result = forge("bench", IMAGE, "--dataset=targets/tiny_gpt2/prompts.json", *words)

    found = result.table
    digest = forge("build", IMAGE).digest(IMAGE)
    assert [(1, 6, 24), (2, 6, 24)] == [
        (each["concurrency"], each["summary"]["answered"], each["summary"]["generated_tokens"])
        for each in found["levels"]
    ]
    assert ({"target": IMAGE, "image": digest}, "completions", True) == (found["tags"], found["api"], found["good"])
    assert all(each["summary"]["first_token_ms"]["p50"] > 0 for each in found["levels"])
    assert all(each["observation"]["steps"]["infer"]["count"] == 6 for each in found["levels"])
    assert 4 == page.read_text().count("<svg")


def test_a_service_that_ends_is_told_with_its_log(forge: Forge) -> None:
    result = forge("bench", IMAGE, "--env=SERVER_MODE=nonsense", code=1)

    assert "SERVER_MODE: Expected one of" in result.stderr
    assert "error: The service ended with 2 while it was measured" in result.stderr


def test_an_interrupt_leaves_nothing_running(forge: Forge) -> None:
    process = forge.start("bench", IMAGE, "--requests=1000000", "--progress=quiet")
    assert process.stderr is not None
    assert "Measuring" in process.stderr.readline()
    end = time.monotonic() + 60
    while len(descendants(process.pid)) < 3 and time.monotonic() < end:  # sandbox, service, client
        time.sleep(0.05)
    below = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    end = time.monotonic() + 5
    while alive(below) and time.monotonic() < end:
        time.sleep(0.05)

    assert 8 == process.returncode
    assert len(below) >= 3
    assert set() == alive(below)


def test_a_client_is_no_service(forge: Forge) -> None:
    assert f"`{CLIENT}` listens on no port" in forge("bench", CLIENT, code=1).stderr


def test_the_image_of_the_client_measures_with_what_it_brings(forge: Forge) -> None:
    service = Service(free_port())
    process = forge.start("run", IMAGE, f"--port={service.port}", "--progress=quiet")
    try:
        service.wait(lambda: process.poll() is None)
        result = forge("run", CLIENT, f"--port={service.port}", "--", "--requests=20", "--output=json")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    assert ("prompts.json: 20 prompts", True) == (result.table["dataset"], result.table["good"])
    assert 20 == json.loads(result.stdout)["levels"][0]["summary"]["answered"]


def test_the_image_of_the_client_says_that_nobody_is_there(forge: Forge) -> None:
    result = forge("run", CLIENT, f"--port={free_port()}", "--", "--wait=0", code=3)

    assert "Nothing listens on 127.0.0.1" in result.stderr
