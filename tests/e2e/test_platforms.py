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
from typing import Any

import numpy as np
import openai
import pytest
import tritonclient.http as triton

from tests.e2e.conftest import copy_workspace, edit, need, run
from tests.e2e.layout import Layout
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


EMULATED_SECONDS = 900.0
"""To be ready under emulation: torch alone takes two minutes of a processor to be imported."""


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
def llama(forge: Forge) -> Iterator[Service]:
    """The llama image on this machine."""
    with served(forge, "//tiny_gpt2:cpu_llm_llama") as service:
        yield service


@pytest.fixture(scope="module")
def transformers(forge: Forge) -> Iterator[Service]:
    """The transformers image."""
    with served(forge, "//tiny_gpt2:cpu_llm_trf") as service:
        yield service


@pytest.fixture(scope="module", params=["llama", "transformers"])
def openai_client(request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    """OpenAI's own client of each."""
    service: Service = request.getfixturevalue(request.param)
    with openai.OpenAI(base_url=f"http://127.0.0.1:{service.port}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def by_llama(llama: Service) -> dict[str, list[int]]:
    """What the llama image generates on this machine."""
    return tokens(llama)


def test_transformers_and_llama_generate_the_same_tokens(transformers: Service, by_llama: dict[str, list[int]]) -> None:
    assert {32} == {len(found) for found in by_llama.values()}
    assert by_llama == tokens(transformers)


def test_openais_client_completes(openai_client: openai.OpenAI, llama: Service) -> None:
    prompt = PROMPTS[0]
    completion = openai_client.completions.create(model="tiny_gpt2", prompt=prompt, max_tokens=32, temperature=0)

    assert llama.infer([prompt])[prompt]["text"] == completion.choices[0].text
    assert completion.usage is not None
    assert 32 == completion.usage.completion_tokens


def test_openais_client_chats_and_streams(openai_client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "the build"}]
    asked: dict[str, Any] = {"model": "tiny_gpt2", "messages": messages, "max_tokens": 96, "temperature": 0}

    whole = openai_client.chat.completions.create(**asked)
    chunks = list(openai_client.chat.completions.create(**asked, stream=True))

    assert whole.choices[0].message.content == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert len([chunk for chunk in chunks if chunk.choices[0].delta.content]) > 1


def test_openais_client_samples_what_a_seed_says(openai_client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny_gpt2", "prompt": "a", "temperature": 1.5, "max_tokens": 16}
    texts = [openai_client.completions.create(**asked, seed=seed).choices[0].text for seed in (7, 7, 8)]

    assert texts[0] == texts[1] != texts[2]


def test_tritons_client_infers(forge: Forge) -> None:
    pictures = np.zeros((3, 3, 32, 32), np.float32)
    with served(forge, "//tiny_vision:cpu_onnx") as service:
        client = triton.InferenceServerClient(f"127.0.0.1:{service.port}")
        given = client.get_model_metadata("tiny_vision")["inputs"][0]
        tensor = triton.InferInput(given["name"], list(pictures.shape), given["datatype"])
        tensor.set_data_from_numpy(pictures)
        answer = client.infer("tiny_vision", [tensor])
        name = client.get_model_metadata("tiny_vision")["outputs"][0]["name"]
        client.close()

    assert (3, 10) == answer.as_numpy(name).shape


@pytest.mark.docker
def test_the_arm_image_generates_them_too(forge: Forge, by_llama: dict[str, list[int]]) -> None:
    """Assembled on whatever this machine is, run emulated; llama.cpp's is run where it was pushed as an index."""
    need("Docker's command", shutil.which("docker") is not None)
    label = "//tiny_gpt2:arm_llm_trf"
    forge("build", label)
    ref = f"forge-e2e-{os.getpid()}:arm_llm_trf"
    forge("image", "export", label, "--format=docker", "--to=arm.tar", f"--ref={ref}")
    with (forge.cwd / "arm.tar").open("rb") as archive:
        subprocess.run(["docker", "load"], stdin=archive, check=True, capture_output=True)
    service = Service(free_port(), EMULATED_SECONDS)
    options = ["--platform=linux/arm64", "--read-only", "--cap-drop=ALL", f"--publish=127.0.0.1:{service.port}:3000"]
    name = run("docker", "run", "--detach", *options, ref).strip()
    try:
        service.wait(lambda: bool(json.loads(run("docker", "inspect", name))[0]["State"]["Running"]))
        found = tokens(service)
    finally:
        run("docker", "rm", "--force", "--volumes", name)
        run("docker", "image", "rm", "--force", ref)

    assert by_llama == found


def test_another_precision_is_one_conversion_and_one_layer_of_each_image(forge: Forge, tmp_path: Path) -> None:
    """GPT-2's llama images on two architectures, with the small model in its place."""
    edited = forge.elsewhere(tmp_path / "converted")
    images = ["//gpt2:cpu_llm_llama", "//gpt2:arm_llm_llama"]
    options = ["--override", "//gpt2:weights=//tiny_gpt2:weights", "--progress=plain"]
    edited("build", *images, *options)
    before = [Layout(edited.cwd / "forge-out/gpt2" / label.partition(":")[2]).manifest["layers"] for label in images]
    edit(edited.cwd / "targets/gpt2/BUILD.toml", 'precision = "f16"', 'precision = "q8_0"')
    ran = edited("build", *images, *options).ran
    after = [Layout(edited.cwd / "forge-out/gpt2" / label.partition(":")[2]).manifest["layers"] for label in images]
    edited("clean")

    # None where the store has seen this precision before.
    assert len([each for each in ran if each.startswith("Convert")]) <= 1
    for old, new in zip(before, after, strict=True):
        assert 1 == sum(one != other for one, other in zip(old, new, strict=True))


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
