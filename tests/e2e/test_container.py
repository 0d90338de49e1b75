"""The image as a container that forge runs, and tests that boot it there."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import IMAGE, Built, need
from tests.e2e.program import Forge
from tests.e2e.service import Service, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.docker]

SCRIPTED = """
[scripted]
rule = "test"
image = ":images"
script = "check.py"
data = ["wanted.txt"]

[refused]
rule = "test"
image = ":images"
script = "refuse.py"
"""
CHECK = """\
import os
import unittest
import urllib.request


class Ready(unittest.TestCase):
    def test_ready(self):
        with urllib.request.urlopen(os.environ["FORGE_TEST_URL"] + "/readyz") as answer:
            self.assertIn(open("wanted.txt").read(), answer.read().decode())


unittest.main()
"""


@pytest.fixture(autouse=True)
def engine() -> None:
    need("Docker's command", shutil.which("docker") is not None)
    need("A Docker engine", subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0)


@pytest.fixture
def scripted(copy: Forge) -> Forge:
    folder = copy.cwd / "targets/tiny_gpt2"
    with (folder / "BUILD.toml").open("a") as file:
        file.write(SCRIPTED)
    (folder / "check.py").write_text(CHECK)
    (folder / "refuse.py").write_text("print('it is not so')\nraise SystemExit(5)\n")
    (folder / "wanted.txt").write_text("tiny_gpt2")
    return copy


def test_a_script_judges_the_image_in_the_sandbox_and_in_a_container(scripted: Forge) -> None:
    sandbox = scripted("test", "//tiny_gpt2:scripted@cpu_llm_trf")
    container = scripted("test", "//tiny_gpt2:scripted@cpu_llm_trf", "//tiny_gpt2:smoke", "--docker")
    again = scripted("test", "//tiny_gpt2:scripted@cpu_llm_trf", "--docker")

    assert "scripted@cpu_llm_trf  PASSED\n" in sandbox.stdout
    assert "scripted@cpu_llm_trf  PASSED\n" in container.stdout
    assert "smoke@cpu_llm_trf  PASSED\n" in container.stdout
    assert "PASSED (cached)" in again.stdout
    refused = scripted("test", "//tiny_gpt2:refused", "--docker", "--junit=junit.xml", code=3)
    assert "it is not so" in refused.stderr
    assert 'message="Exit status 5"' in (scripted.cwd / "junit.xml").read_text()


def test_a_container_serves_until_it_is_interrupted(built: Built, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    service = Service(free_port())
    around = [f"--port={service.port}", "--docker", "--env=TEMPERATURE=0.2", "--secret=SHOP_TOKEN", "--progress=quiet"]
    process = built.forge.start("run", IMAGE, *around, SHOP_TOKEN="s3cret-of-nobody")
    try:
        service.wait(lambda: process.poll() is None)
        names = containers()
        shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout

        assert 1 == len(names)
        assert "s3cret-of-nobody" not in shown
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=90)

    assert 0 == process.returncode
    assert [] == [name for name in names if name in containers()]


def test_what_the_image_ends_with_is_passed_on(built: Built) -> None:
    line = ["shell", IMAGE, "--docker", "--noworkspace", "--progress=quiet", "--", "/usr/bin/python3", "-c"]
    result = built.forge(*line, "import os, sys; print(os.environ['HF_HUB_OFFLINE']); sys.exit(7)", code=7)

    assert "1\n" == result.stdout


def containers() -> list[str]:
    words = ["docker", "ps", "--filter", "name=^forge-", "--format", "{{.Names}}"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
