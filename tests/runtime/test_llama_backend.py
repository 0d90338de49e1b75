"""The llama.cpp backend gives what transformers gives of the same model, token for token."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp")  # ./check builds it before the end-to-end tests
pytest.importorskip("gguf")

from forge_runtime import LoadError, Sampling
from forge_runtime.backend import Outcome, Prompt
from forge_runtime.backends.llama_cpp import LlamaBackend
from forge_runtime.config import Config, ModelConfig, Params
from forge_runtime.isolated import IsolatedText
from tests.runtime.fake import Client, make_config, serving
from tests.runtime.reader import Reader, ask, generations, refusal, run

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
MODULE = "forge_runtime.backends.llama_cpp"
POSITIONS = 256
PROMPTS = (
    "the build",
    "a",
    "one two three four five",
    "grüße, 世界",
    "The quick brown fox jumps over the lazy dog",
    "def main():\n    return",
    "1, 2, 3, 4,",
    "<|endoftext|>the build",
)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """//tiny_gpt2 as it is made."""
    out = tmp_path_factory.mktemp("tiny_gpt2") / "checkpoint"
    package = ROOT / "targets" / "tiny_gpt2"
    argv = [sys.executable, str(package / "make_model.py"), "--corpus", str(package / "corpus.txt")]
    subprocess.run([*argv, "--seed", "0", "--out", str(out)], check=True)
    return out


@pytest.fixture(scope="session")
def folder(checkpoint: Path) -> Path:
    """The same in GGUF, f16."""
    out = checkpoint.parent / "gguf"
    argv = [sys.executable, "-m", "rules.actions.convert_gguf", "--model", str(checkpoint), "--name", "tiny_gpt2"]
    subprocess.run([*argv, "--precision", "f16", "--out", str(out)], check=True, cwd=ROOT)
    return out


def load(folder: Path, **params: object) -> LlamaBackend:
    backend = LlamaBackend()
    backend.load(model(folder), replace(Params(batch_size=4, max_length=POSITIONS, num_threads=1), **params))  # type: ignore[arg-type]
    return backend


def model(folder: Path) -> ModelConfig:
    return ModelConfig("tiny_gpt2", folder, "gguf")


def config(folder: Path, **params: object) -> Config:
    made = make_config(params=replace(Params(batch_size=4, max_length=POSITIONS, num_threads=1), **params))  # type: ignore[arg-type]
    return replace(made, model=model(folder))


@pytest.fixture(scope="module")
def backend(folder: Path) -> LlamaBackend:
    return load(folder)


def ids(outcomes: Sequence[Outcome]) -> list[tuple[int, ...]]:
    return [result.token_ids for result in generations(outcomes)]


def test_greedy_text_is_that_of_transformers_token_for_token(checkpoint: Path, backend: LlamaBackend) -> None:
    pytest.importorskip("transformers")
    from forge_runtime.backends.transformers import TransformersBackend

    other = TransformersBackend()
    other.load(ModelConfig("tiny_gpt2", checkpoint), Params(max_length=POSITIONS, num_threads=1))
    prompts = ask(*PROMPTS, sampling=Sampling(POSITIONS, max_new_tokens=32, stop=(" no ",)), streams=True)
    theirs, ours = Reader(), Reader()
    expected = run(other, *prompts, reader=theirs)

    assert list(run(backend, *prompts, reader=ours)) == list(expected)
    assert ours.heard == theirs.heard


def test_a_batch_is_what_each_prompt_gets_alone(backend: LlamaBackend) -> None:
    prompts = ask(*PROMPTS, sampling=Sampling(POSITIONS, max_new_tokens=32))
    alone = [run(backend, prompt)[0] for prompt in prompts]

    assert list(run(backend, *prompts)) == alone


def test_each_prompt_has_a_sampling_of_its_own(backend: LlamaBackend) -> None:
    prompts = [
        Prompt("a", Sampling(POSITIONS, max_new_tokens=3)),
        Prompt("a", Sampling(64, do_sample=True, temperature=2, seed=7)),
        Prompt("the build", Sampling(20)),
        Prompt("a", Sampling(64, stop=(" no",))),
    ]
    alone = [run(backend, prompt)[0] for prompt in prompts]

    assert list(run(backend, *prompts)) == alone


def test_max_length_counts_the_prompt(backend: LlamaBackend) -> None:
    (result,) = generations(run(backend, *ask("the build", sampling=Sampling(10))))

    assert result.prompt_tokens + result.generated_tokens == 10
    assert result.finish_reason == "length"


def test_the_models_positions_cap_max_length(folder: Path) -> None:
    backend = load(folder, max_length=100 * POSITIONS)

    results = generations(run(backend, *ask(*PROMPTS, sampling=Sampling(100 * POSITIONS))))

    assert backend.describe()["context"] == POSITIONS
    assert {result.prompt_tokens + result.generated_tokens for result in results} == {POSITIONS}


@pytest.mark.parametrize("prompt", ["x " * POSITIONS, "x " * 100 * POSITIONS], ids=["long", "very long"])
def test_a_prompt_that_leaves_no_room_is_refused_and_its_neighbours_run(backend: LlamaBackend, prompt: str) -> None:
    sampling = Sampling(POSITIONS, max_new_tokens=4)

    left, refused, right = run(backend, *ask("a", prompt, "the build", sampling=sampling))

    assert refusal(refused) == (400, "context_length_exceeded")
    assert [left, right] == list(run(backend, *ask("a", "the build", sampling=sampling)))


def test_a_prompt_that_just_fits_gets_one_token(backend: LlamaBackend) -> None:
    (whole,) = generations(run(backend, *ask("the build", sampling=Sampling(POSITIONS))))
    limit = whole.prompt_tokens + 1

    assert ids(run(backend, *ask("the build", sampling=Sampling(limit)))) == [whole.token_ids[:1]]


@pytest.mark.parametrize("count", range(1, 12))
def test_no_token_beyond_those_asked_for_whatever_the_character(backend: LlamaBackend, count: int) -> None:
    results = generations(run(backend, *ask(*PROMPTS, sampling=Sampling(POSITIONS, max_new_tokens=count))))

    assert {result.generated_tokens for result in results} == {count}


def drawn(seed: int | None) -> Sampling:
    return Sampling(64, do_sample=True, temperature=2, seed=seed)


def test_a_seed_repeats_and_another_does_not(backend: LlamaBackend) -> None:
    def sample(*seeds: int) -> list[tuple[int, ...]]:
        return ids(run(backend, *(Prompt("a", drawn(seed)) for seed in seeds)))

    assert sample(1, 2) == sample(1, 2)
    assert sample(1) + sample(2) == sample(1, 2)
    assert sample(1) != sample(2)
    assert sample(2**63 - 1)


def test_without_a_seed_texts_differ(backend: LlamaBackend) -> None:
    prompts = ask("a", "a", sampling=drawn(None))
    first, second = ids(run(backend, *prompts))

    assert len({first, second, *ids(run(backend, *prompts))}) == 4


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(64, do_sample=True, temperature=0),
        Sampling(64, do_sample=False, temperature=2),
        Sampling(64, do_sample=True, temperature=2, top_p=0, seed=1),
        Sampling(64, do_sample=True, temperature=0.01, seed=1),
    ],
    ids=["temperature 0", "do_sample false", "top_p 0", "temperature 0.01"],
)
def test_what_leaves_no_choice_is_greedy(backend: LlamaBackend, sampling: Sampling) -> None:
    assert ids(run(backend, *ask("a", sampling=sampling))) == ids(run(backend, *ask("a", sampling=Sampling(64))))


def test_a_prompt_that_nobody_waits_for_ends_alone(backend: LlamaBackend) -> None:
    prompts = ask("a", "the build", "1, 2", sampling=Sampling(POSITIONS))
    alone = generations(run(backend, *prompts))
    reader = Reader(leaves={1: 9})

    left, gone, right = generations(run(backend, *prompts, reader=reader))

    assert (gone.finish_reason, gone.generated_tokens < 9) == ("cancelled", True)
    assert gone.token_ids == alone[1].token_ids[: gone.generated_tokens]
    assert [left, right] == [alone[0], alone[2]]


@pytest.mark.parametrize("asked", [1, 2], ids=["before the batch", "before its prompt is read"])
def test_what_nobody_waits_for_is_not_begun(backend: LlamaBackend, asked: int) -> None:
    (result,) = generations(run(backend, *ask("a", sampling=Sampling(POSITIONS)), reader=Reader(leaves={0: asked})))

    assert (result.finish_reason, result.generated_tokens) == ("cancelled", 0)


def test_generation_ends_at_a_stop_sequence(backend: LlamaBackend) -> None:
    (whole,) = generations(run(backend, *ask("a", sampling=Sampling(POSITIONS, max_new_tokens=32))))
    stop = whole.text[20:23]
    reader = Reader()

    (result,) = generations(run(backend, Prompt("a", Sampling(POSITIONS, stop=(stop,)), True), reader=reader))

    assert result.text == reader.text(0) == whole.text[: whole.text.index(stop)]
    assert (result.finish_reason, result.token_ids) == ("stop", whole.token_ids[: result.generated_tokens])


def test_an_accelerator_that_is_not_there_is_named(folder: Path) -> None:
    from forge_runtime.llama_library import has_accelerator

    if has_accelerator():
        pytest.skip("there is one")
    with pytest.raises(LoadError, match="No accelerator `1`"):
        load(folder, device_index=1)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_num_threads_acts_and_changes_no_token(folder: Path, backend: LlamaBackend, threads: int) -> None:
    other = load(folder, num_threads=threads)
    before = len(os.listdir("/proc/self/task"))
    prompts = ask(*PROMPTS, sampling=Sampling(POSITIONS, max_new_tokens=32))

    assert other.describe()["threads"] == threads
    assert list(run(other, *prompts)) == list(run(backend, *prompts))
    assert len(os.listdir("/proc/self/task")) <= before + threads


def test_a_batch_size_beyond_the_librarys_is_split(folder: Path) -> None:
    backend = load(folder, batch_size=1000, max_length=16)

    assert len(generations(run(backend, *ask(*["a"] * 300, sampling=Sampling(4))))) == 300


@pytest.mark.parametrize("share", [0, 3, 24, 100, 2000, 20_000, 200_000, 3_000_000])
def test_a_truncated_file_is_a_load_error(folder: Path, tmp_path: Path, share: int) -> None:
    (tmp_path / "model.gguf").write_bytes((folder / "model.gguf").read_bytes()[:share])

    with pytest.raises(LoadError, match=r"model\.gguf"):
        load(tmp_path)


def test_a_file_of_noise_behind_a_header_is_an_error_and_no_crash_of_the_server(folder: Path, tmp_path: Path) -> None:
    content = bytearray((folder / "model.gguf").read_bytes())
    content[200:2000] = os.urandom(1800)
    (tmp_path / "model.gguf").write_bytes(content)
    backend = IsolatedText(MODULE)

    with pytest.raises(LoadError):
        backend.load(model(tmp_path), Params())
    assert backend._child is None


def test_not_one_file_is_a_load_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"found \[none\]"):
        load(tmp_path)
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(folder / "model.gguf", tmp_path / name)
    with pytest.raises(LoadError, match=r"found \[a\.gguf, b\.gguf\]"):
        load(tmp_path)


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with serving(IsolatedText(MODULE), config(folder)) as client:
        yield client


def test_a_text_over_http_is_that_of_the_backend(client: Client, backend: LlamaBackend) -> None:
    results = generations(run(backend, *ask(*PROMPTS, sampling=Sampling(POSITIONS, max_new_tokens=8))))
    expected = dict(zip(PROMPTS, [each.text for each in results], strict=True))

    assert client.infer(*PROMPTS, gen={"max_new_tokens": 8}).json == expected


def test_a_prompt_beyond_the_positions_is_a_400_and_the_next_is_served(client: Client) -> None:
    refused = client.infer("x " * POSITIONS)

    assert (refused.status, refused.error["code"]) == (400, "context_length_exceeded")
    assert client.infer("a", gen={"max_new_tokens": 1}).status == 200


def test_generation_to_the_last_position_ends_nothing(client: Client) -> None:
    (answer,) = client.infer("a", gen={"max_length": POSITIONS}, details=True).json.values()  # type: ignore[attr-defined]

    assert answer["prompt_tokens"] + answer["generated_tokens"] == POSITIONS
    assert client.metric("forge_backend_restarts_total") == 0


def test_an_aborted_process_costs_one_request(folder: Path) -> None:
    backend = IsolatedText(MODULE)
    with serving(backend, config(folder)) as client:
        expected = client.infer("the build", gen={"max_new_tokens": 8}).json

        os.kill(backend.pid, signal.SIGABRT)
        client.wait_lost()
        client.wait_ready()

        assert client.infer("the build", gen={"max_new_tokens": 8}).json == expected
        assert client.metric("forge_backend_restarts_total") == 1
