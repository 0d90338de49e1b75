"""One model on several platforms: what each generates is the same, token for token."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import copy_workspace, need, run
from tests.e2e.program import Forge
from tests.e2e.service import Service, free_port

pytestmark = pytest.mark.e2e

PROMPTS = (
    "the build",
    "a",
    "one two three four five",
    "grüße, 世界",
    "The quick brown fox",
    "def main():",
    "1, 2, 3",
    "so it is",
)


@pytest.fixture(scope="module")
def forge(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """All platforms, in the store that `./check` has filled: llama.cpp is compiled once."""
    workspace = tmp_path_factory.mktemp("platforms") / "workspace"
    copy_workspace(workspace, whole=True)
    home = os.environ.get("FORGE_E2E_HOME")
    found = Forge(checkout, workspace, {"FORGE_HOME": home} if home else {})
    yield found
    found("clean")


@contextmanager
def served(forge: Forge, label: str) -> Iterator[Service]:
    """Serve an image from its own file system."""
    forge("build", label)
    service = Service(free_port())
    process = forge.start("run", label, f"--port={service.port}", "--progress=quiet")
    try:
        service.wait(lambda: process.poll() is None)
        yield service
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0


def tokens(service: Service) -> dict[str, list[int]]:
    """Generate 32 tokens greedily after each prompt."""
    return {prompt: service.infer([prompt])[prompt]["token_ids"] for prompt in PROMPTS}


@pytest.fixture(scope="module")
def by_llama(forge: Forge) -> dict[str, list[int]]:
    """What the llama image generates on this machine."""
    with served(forge, "//tiny_gpt2:cpu_llm_llama") as service:
        return tokens(service)


def test_transformers_and_llama_generate_the_same_tokens(forge: Forge, by_llama: dict[str, list[int]]) -> None:
    with served(forge, "//tiny_gpt2:cpu_llm_trf") as service:
        by_transformers = tokens(service)

    assert {32} == {len(found) for found in by_llama.values()}
    assert by_transformers == by_llama


@pytest.mark.docker
def test_the_arm_image_generates_them_too(forge: Forge, by_llama: dict[str, list[int]]) -> None:
    """Assembled on whatever this machine is, with a library that was compiled across; run under emulation."""
    need("Docker's command", shutil.which("docker") is not None)
    forge("build", "//tiny_gpt2:arm_llm_llama")
    ref = f"forge-e2e-{os.getpid()}:arm"
    forge("image", "export", "//tiny_gpt2:arm_llm_llama", "--format=docker", "--to=arm.tar", f"--ref={ref}")
    with (forge.cwd / "arm.tar").open("rb") as archive:
        subprocess.run(["docker", "load"], stdin=archive, check=True, capture_output=True)
    service = Service(free_port())
    options = ["--platform=linux/arm64", "--read-only", "--cap-drop=ALL", f"--publish=127.0.0.1:{service.port}:3000"]
    name = run("docker", "run", "--detach", *options, ref).strip()
    try:
        service.wait(lambda: bool(json.loads(run("docker", "inspect", name))[0]["State"]["Running"]))
        found = tokens(service)
    finally:
        run("docker", "rm", "--force", "--volumes", name)
        run("docker", "image", "rm", "--force", ref)

    assert by_llama == found


def test_a_second_workspace_builds_nothing_that_the_store_has(forge: Forge, tmp_path: Path) -> None:
    """llama.cpp, the conversion and the image: one action each, however many workspaces share them."""
    label = "//tiny_gpt2:cpu_llm_llama"
    forge("build", label)
    other = forge.elsewhere(tmp_path / "other")
    result = other("build", label, "--output=json")
    other("clean")

    assert json.loads(result.stdout)["actions"]["ran"] == 0


def test_a_profile_is_a_trace_of_what_ran(forge: Forge, tmp_path: Path) -> None:
    edited = forge.elsewhere(tmp_path / "profiled")
    declarations = edited.cwd / "targets/tiny_gpt2/BUILD.toml"
    declarations.write_text(declarations.read_text().replace("top_p = 0.95", f"top_p = 0.{uuid.uuid4().int % 10**9}"))
    edited("build", "//tiny_gpt2:cpu_llm_llama", "--profile=trace.json")
    trace = json.loads((edited.cwd / "trace.json").read_text())
    edited("clean")
    ran = [event for event in trace["traceEvents"] if event["ph"] == "X" and event["cat"] == "Layer"]

    assert ["Layer configuration //tiny_gpt2:cpu_llm_llama"] == [event["name"] for event in ran]
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in ran)


def test_an_edit_of_what_a_rule_brings_along_is_seen(forge: Forge) -> None:
    """Loading reads no `rules/actions/*.py`: the no-op must look at them all the same."""
    label = "//tiny_gpt2:gguf"
    script = forge.checkout / "rules/actions/gate.py"
    forge("build", label)
    forge("build", label)
    before = script.read_text()
    try:
        script.write_text(f"{before}# Remark {uuid.uuid4()}: no store has seen it.\n")
        edited = forge("build", label, "--progress=plain")
    finally:
        script.write_text(before)

    assert ["Bound the divergence of //tiny_gpt2:gguf"] == edited.ran
    assert "the same as before" in forge("explain", label).stdout
