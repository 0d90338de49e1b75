"""What the served image generates is what transformers generates outside forge; and how the service stops."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import IMAGE, Built
from tests.e2e.program import alive, descendants
from tests.e2e.service import NEW_TOKENS, Service, free_port

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def process(built: Built) -> Iterator[tuple[subprocess.Popen[str], Service]]:
    """`forge run`, ready."""
    service = Service(free_port())
    running = built.forge.start("run", IMAGE, "--port", str(service.port))
    try:
        service.wait(lambda: running.poll() is None)
        yield running, service
    finally:
        running.kill()
        running.communicate()


@pytest.fixture(scope="module")
def service(process: tuple[subprocess.Popen[str], Service]) -> Service:
    """Where it listens."""
    return process[1]


def test_each_prompt_gets_the_reference_tokens(
    service: Service, prompts: list[str], expected: dict[str, list[int]]
) -> None:
    assert {len(ids) for ids in expected.values()} == {NEW_TOKENS}

    found = {prompt: service.infer([prompt])[prompt]["token_ids"] for prompt in prompts}

    assert expected == found


def test_a_batch_of_eight_gets_the_reference_tokens(
    service: Service, prompts: list[str], expected: dict[str, list[int]]
) -> None:
    found = service.infer(prompts)

    assert expected == {prompt: found[prompt]["token_ids"] for prompt in prompts}


def test_a_port_that_is_taken_is_named(built: Built, service: Service) -> None:
    result = built.forge("run", IMAGE, "--port", str(service.port), code=36)

    assert result.stdout == ""
    assert f"error: Port {service.port} cannot be had: Address already in use\n  hint: " in result.stderr


def test_only_loopback_is_listened_on(service: Service) -> None:
    outside = socket.gethostbyname(socket.gethostname())
    if outside.startswith("127."):
        pytest.skip("This machine has no other address")
    with socket.socket() as probe:
        probe.settimeout(2)

        assert probe.connect_ex((outside, service.port)) != 0


def test_ctrl_c_stops_the_service_with_nothing_left(process: tuple[subprocess.Popen[str], Service]) -> None:
    """The last test of this file: the service is gone after it."""
    running, service = process
    processes = descendants(running.pid)
    assert processes

    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=60)

    assert running.returncode == 0, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert f"Serving {IMAGE} on http://127.0.0.1:{service.port} (Ctrl-C stops it)\n" in stderr
    assert alive(processes) == set()
