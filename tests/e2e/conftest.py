"""One build from nothing, which the tests here then look at from all sides."""

from __future__ import annotations

import importlib
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.layout import Layout
from tests.e2e.program import REPOSITORY, Forge, Result, Sandboxes, copy_code, find_bwrap
from tests.e2e.service import NEW_TOKENS

IMAGE = "//tiny_gpt2:cpu_llm_trf"
CHECKPOINT = "//tiny_gpt2:checkpoint"
CANARIES = {
    "USER": "canary-user-7f31",
    "LOGNAME": "canary-user-7f31",
    "HOSTNAME": "canary-host-7f31",
    "AWS_SECRET_ACCESS_KEY": "canary-aws-7f31",
    "FORGE_E2E_SECRET": "canary-secret-7f31",
}
"""What the builder's environment holds and no image may."""
PROMPTS = ("the build", "a", "One two three, four five.", "grüße, 世界 and the rest of the text")


@dataclass(frozen=True)
class Built:
    """A workspace in which the image has been built from nothing."""

    forge: Forge
    home: Path
    sandboxes: Sandboxes
    first: Result
    """The first command ever."""

    @property
    def layout(self) -> Layout:
        """The image."""
        return Layout(self.forge.cwd / "forge-out/tiny_gpt2/cpu_llm_trf")

    @property
    def sbom(self) -> bytes:
        """What the image is made of."""
        return (self.forge.cwd / "forge-out/tiny_gpt2/cpu_llm_trf.sbom.json").read_bytes()

    @property
    def weights(self) -> Path:
        """The model's weights, as the workspace made them."""
        return self.forge.cwd / "forge-out/tiny_gpt2/checkpoint/model.safetensors"


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of forge's code: what others do in the repository meanwhile is no part of the test."""
    return copy_code(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="session")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """Build the image in a clean copy, into an empty store."""
    base = tmp_path_factory.mktemp("built")
    workspace, home = base / "workspace", base / "home"
    copy_workspace(workspace)
    sandboxes = Sandboxes.make(base / "sandboxes", find_bwrap(checkout))
    environ = {**CANARIES, "FORGE_HOME": str(home), "FORGE_BWRAP": str(sandboxes.program)}
    forge = Forge(checkout, workspace, environ)
    yield Built(forge, home, sandboxes, forge("build", IMAGE, CHECKPOINT, "--progress=plain"))
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def copy(built: Built, tmp_path: Path) -> Iterator[Forge]:
    """The same workspace in a folder of its own, up to date: the store is shared."""
    forge = built.forge.elsewhere(tmp_path / "copy")
    forge("build", IMAGE, CHECKPOINT)
    yield forge
    forge("clean")


@pytest.fixture(scope="session")
def prompts(built: Built) -> list[str]:
    """Eight prompts: four fixed, four drawn.

    The last one begins with the seed that they were drawn with, so that a failure shows it: FORGE_E2E_SEED repeats it.
    """
    seed = int(os.environ.get("FORGE_E2E_SEED") or random.SystemRandom().randrange(2**32))
    draw = random.Random(seed)
    words = re.findall(r"\S+", (built.forge.cwd / "targets/tiny_gpt2/corpus.txt").read_text())
    drawn = [" ".join(draw.choices(words, k=draw.randint(1, 16))) for _ in range(3)]
    noise = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz .,;0123456789{}äπ\n", k=24))
    return [*PROMPTS, *drawn, f"{seed} {noise}"]


@pytest.fixture(scope="session")
def expected(built: Built, prompts: list[str]) -> dict[str, list[int]]:
    """What transformers, outside forge, generates from the same weights: token ids by prompt."""
    if os.environ.get("FORGE_REQUIRE_TORCH") != "1":
        pytest.importorskip("torch")
        pytest.importorskip("transformers")
    transformers = importlib.import_module("transformers")
    folder = built.weights.parent
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    found = {}
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt")
        output = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)
        found[prompt] = [int(token) for token in output[0, inputs["input_ids"].shape[1] :]]
    return found


def copy_workspace(folder: Path, *, whole: bool = False) -> None:
    """Copy the repository's packages: //tiny_gpt2 with one platform unless `whole`.

    What is built from an empty store is not to compile llama.cpp each time.
    """
    folder.mkdir(parents=True)
    shutil.copy(REPOSITORY / "WORKSPACE.toml", folder)
    left_out = shutil.ignore_patterns("__pycache__", *([] if whole else ["gpt2", "tiny_vision"]))
    shutil.copytree(REPOSITORY / "targets", folder / "targets", ignore=left_out)
    if not whole:
        declarations = folder / "targets/tiny_gpt2/BUILD.toml"
        edit(declarations, '[":weights", ":gguf"]', '[":weights"]')
        edit(declarations, '["cpu_llm_*", "arm_llm_*", "!*_vllm"]', '["cpu_llm_trf"]')
        kept = re.sub(r"(?ms)^\[((gguf|onnx)\w*|llama)\]$.*?(?=^\[)", "", declarations.read_text(encoding="utf-8"))
        declarations.write_text(kept, encoding="utf-8")


def edit(path: Path, old: str, new: str) -> None:
    """Change one place of a file; it must be there once."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {path}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def need(what: str, present: bool) -> None:
    """Skip where something is not there, unless it must be."""
    if not present and os.environ.get("FORGE_REQUIRE_DOCKER") == "1":
        pytest.fail(f"{what} is required and not there")
    if not present:
        pytest.skip(f"{what} is not there")


def run(*argv: str, **options: object) -> str:
    """Run a program that must succeed; what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return str(done.stdout)
