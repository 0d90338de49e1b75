"""The image as a container that forge runs, and tests that boot it there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import copy_workspace, need
from tests.e2e.program import Forge
from tests.e2e.service import Service, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.docker]

IMAGE = "//tiny_gpt2:cpu_llm_llama"
SCRIPTED = """
[scripted]
rule = "test"
image = ":images"
script = "check.py"
data = ["wanted.txt"]
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


@pytest.fixture(scope="module")
def scripted(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """The workspace with one test more, and images under a name of its own, in the store that `./check` has filled."""
    need("Docker's command", shutil.which("docker") is not None)
    need("A Docker engine", subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0)
    before = images("forge-test")
    workspace = tmp_path_factory.mktemp("scripted") / "workspace"
    copy_workspace(workspace, whole=True)
    home = os.environ.get("FORGE_E2E_HOME")
    forge = Forge(checkout, workspace, {"FORGE_HOME": home} if home else {})
    folder = forge.cwd / "targets/tiny_gpt2"
    repository = f"forge-e2e-container-{os.getpid()}"
    with (forge.cwd / "WORKSPACE.toml").open("a") as file:
        file.write(f'[image]\nrepository = "{repository}"\n')
    with (folder / "BUILD.toml").open("a") as file:
        file.write(SCRIPTED)
    (folder / "check.py").write_text(f"{CHECK}# {uuid.uuid4()}: no verdict of an earlier run\n")
    (folder / "wanted.txt").write_text("tiny_gpt2")
    yield forge
    forge("clean")
    for name in [*images(f"{repository}/tiny_gpt2"), *(images("forge-test") - before)]:
        subprocess.run(["docker", "image", "rm", name], capture_output=True, check=False)


def test_a_script_judges_the_image_in_the_sandbox_and_in_a_container(scripted: Forge) -> None:
    sandbox = scripted("test", "//tiny_gpt2:scripted@cpu_llm_llama")
    container = scripted("test", "//tiny_gpt2:scripted@cpu_llm_llama", "--docker")

    assert "scripted@cpu_llm_llama  PASSED\n" in sandbox.stdout
    assert "scripted@cpu_llm_llama  PASSED\n" in container.stdout


def test_a_container_serves_until_it_is_interrupted(scripted: Forge) -> None:
    service = Service(free_port())
    around = [f"--port={service.port}", "--docker", "--env=TEMPERATURE=0.2", "--secret=SHOP_TOKEN", "--progress=quiet"]
    process = scripted.start("run", IMAGE, *around, SHOP_TOKEN="s3cret-of-nobody")
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


def test_what_the_image_ends_with_is_passed_on(scripted: Forge) -> None:
    line = ["shell", IMAGE, "--docker", "--noworkspace", "--progress=quiet", "--", "/usr/bin/python3", "-c"]
    result = scripted(*line, "import os, sys; print(os.environ['HF_HUB_OFFLINE']); sys.exit(7)", code=7)

    assert "1\n" == result.stdout


def containers() -> list[str]:
    words = ["docker", "ps", "--filter", "name=^forge-", "--format", "{{.Names}}"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


def images(repository: str) -> set[str]:
    words = ["docker", "image", "ls", repository, "--format", "{{.Repository}}:{{.Tag}}"]
    return set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
