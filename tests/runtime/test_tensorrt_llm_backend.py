"""The TensorRT-LLM backend, against a fake of the library: what it asks for, and what it makes of each result.

Not run against TensorRT-LLM itself: it needs an NVIDIA GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forge_runtime import Generation, LoadError, Sampling
from forge_runtime.backend import Prompt, TextBackend
from forge_runtime.backends.tensorrt_llm import TensorrtLlmBackend
from forge_runtime.config import ModelConfig, Params
from tests.runtime.fake_frameworks.byte_model import END, ENDLESS
from tests.runtime.frameworks import fake_frameworks, write_model
from tests.runtime.reader import Reader, ask, generations, refusal, run

ANSWERS = {"hello": " world", "grüße": ", 世界 🎉", "list": "one\ntwo\nthree\nfour"}
SAMPLING = Sampling(64)
BUILD = {"max_seq_len": 48, "max_batch_size": 8}


@pytest.fixture(autouse=True)
def framework() -> Iterator[None]:
    with fake_frameworks("tensorrt_llm"):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path, ANSWERS, max_position_embeddings=64, torch_dtype="bfloat16")


@pytest.fixture
def backend(folder: Path) -> TensorrtLlmBackend:
    return load(folder)


def load(folder: Path, model_format: str = "safetensors", **params: object) -> TensorrtLlmBackend:
    backend = TensorrtLlmBackend()
    backend.load(ModelConfig("tiny", folder, model_format), replace(Params(batch_size=4), **params))  # type: ignore[arg-type]
    return backend


def library() -> Any:
    import tensorrt_llm  # type: ignore[import-not-found, unused-ignore]

    return tensorrt_llm


def opened() -> Any:
    """Return the LLM that was made last."""
    return library().opened[-1]


def test_it_is_a_backend_of_text() -> None:
    assert isinstance(TensorrtLlmBackend(), TextBackend)


def test_a_text_is_continued_to_its_end(backend: TensorrtLlmBackend) -> None:
    expected = Generation(" world", 5, 7, (*b" world", END), "stop")

    assert [expected] == run(backend, *ask("hello", sampling=SAMPLING))


def test_order_is_kept_and_each_prompt_has_a_sampling_of_its_own(backend: TensorrtLlmBackend) -> None:
    prompts = [
        Prompt("so ", Sampling(64, max_new_tokens=3)),
        Prompt("hello", SAMPLING),
        Prompt("so ", Sampling(10)),
        Prompt("list", Sampling(64, stop=("\nth", "x"))),
    ]

    results = generations(run(backend, *prompts))

    assert [
        (ENDLESS[:3], "length", 3),
        (" world", "stop", 7),
        (ENDLESS[:7], "length", 7),
        ("one\ntwo", "stop", 10),
    ] == [(result.text, result.finish_reason, result.generated_tokens) for result in results]


@pytest.mark.parametrize("at_once", [1, 3])
def test_the_pieces_are_whole_characters_and_together_the_text(tmp_path: Path, at_once: int) -> None:
    backend = load(write_model(tmp_path, ANSWERS, tokens_per_step=at_once, max_position_embeddings=64))
    reader = Reader()

    (result,) = generations(run(backend, *ask("grüße", sampling=SAMPLING, streams=True), reader=reader))

    assert result.text == reader.text(0) == ", 世界 🎉"
    assert [",", " ", "世", "界", " ", "🎉"] == reader.heard[0]


def test_a_token_that_ends_the_text_is_no_part_of_it(folder: Path) -> None:
    write_model(folder, ANSWERS, end=ord("#"))
    (folder / "generation_config.json").write_text(f'{{"eos_token_id": [{ord("#")}]}}')

    (result,) = generations(run(load(folder), *ask("hello", sampling=SAMPLING)))

    assert (" world", "stop", tuple(b" world#")) == (result.text, result.finish_reason, result.token_ids)


def test_a_stop_aborts_the_request(backend: TensorrtLlmBackend) -> None:
    run(backend, *ask("so ", sampling=Sampling(64, stop=("so on",))))

    assert [True] == [result.aborted for result in opened().results]


def test_a_prompt_that_nobody_waits_for_is_aborted_alone(backend: TensorrtLlmBackend) -> None:
    reader = Reader(leaves={1: 4})

    first, gone, last = generations(run(backend, *ask("hello", "so ", "list", sampling=SAMPLING), reader=reader))

    assert ("cancelled", ENDLESS[:2]) == (gone.finish_reason, gone.text)
    assert [False, True, False] == [result.aborted for result in opened().results]
    assert [" world", ANSWERS["list"]] == [first.text, last.text]


def test_a_prompt_that_leaves_no_room_is_refused_and_its_neighbours_run(tmp_path: Path) -> None:
    backend = load(write_model(tmp_path, ANSWERS, max_position_embeddings=64, max_num_tokens=40))

    outcomes = run(backend, *ask("x" * 64, "", "y" * 50, "hello", sampling=Sampling(1000)))

    assert [
        (400, "context_length_exceeded"),
        (400, "invalid_value"),
        (400, "invalid_value"),
    ] == [refusal(outcome) for outcome in outcomes[:3]]
    assert " world" == generations(outcomes[3:])[0].text


def test_greedy_and_drawn_are_asked_for(backend: TensorrtLlmBackend) -> None:
    drawn = Sampling(64, do_sample=True, temperature=0.5, top_p=0, seed=7, max_new_tokens=9)
    run(backend, Prompt("hello", Sampling(64, temperature=0.9)), Prompt("hello", drawn))

    greedy, other = opened().seen

    assert (1, None, 59) == (greedy.top_k, greedy.temperature, greedy.max_tokens)
    assert (0.5, 7, 9) == (other.temperature, other.seed, other.max_tokens)
    assert 0 < other.top_p < 1e-5


def test_a_seed_draws_the_same_alone_and_in_any_batch(backend: TensorrtLlmBackend) -> None:
    prompts = [Prompt("so ", Sampling(64, do_sample=True, seed=seed)) for seed in (1, 2)]
    alone = [run(backend, prompt)[0] for prompt in prompts]

    assert alone[::-1] == list(run(backend, *prompts[::-1], *ask("hello", sampling=SAMPLING)))[:2]


def test_texts_without_a_seed_differ(backend: TensorrtLlmBackend) -> None:
    first, second = generations(run(backend, *ask("so ", "so ", sampling=Sampling(64, do_sample=True))))

    assert first.text != second.text


def test_a_prompt_that_the_engine_gives_up_is_an_error_and_keeps_no_request(backend: TensorrtLlmBackend) -> None:
    with pytest.raises(RuntimeError, match="TensorRT-LLM ended a prompt with `timeout`"):
        run(backend, *ask("so ", "!", sampling=SAMPLING))

    assert [True, True] == [result.aborted or result.finished for result in opened().results]


def test_the_parameters_of_a_checkpoint_act(folder: Path) -> None:
    load(folder, device_index=2, precision="fp16", gpu_memory_share=0.3, max_length=32, batch_size=5)

    assert {"dtype": "float16", "max_seq_len": 32, "max_batch_size": 5} == opened().options
    assert 0.3 == opened().kv_cache_config.free_gpu_memory_fraction
    assert "2" == library().environment["CUDA_VISIBLE_DEVICES"]


def test_an_engine_is_run_as_it_was_built(tmp_path: Path) -> None:
    model = {"dtype": "float16", "max_position_embeddings": 1024}
    folder = write_model(tmp_path, ANSWERS, pretrained_config=model, build_config=BUILD)
    backend = load(folder, "tensorrt", max_length=10**6)

    assert ({}, None) == (opened().options, opened().kv_cache_config)
    assert {
        "backend": "tensorrt_llm",
        "device": "cuda:0",
        "precision": "float16",
        "context": 48,
    } == backend.describe()
    assert " world" == generations(run(backend, *ask("hello", sampling=SAMPLING)))[0].text


def test_the_precision_of_an_engine_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="params.precision: An engine has the precision that it was built with"):
        load(tmp_path, "tensorrt", precision="fp16")


def test_an_engine_without_a_tokenizer_is_a_load_error(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="No tokenizer beside the engine"):
        load(write_model(tmp_path, {}, build_config=BUILD, bare=True), "tensorrt")


def test_it_reaches_no_network_and_starts_no_process(folder: Path) -> None:
    load(folder)

    assert {
        "TLLM_WORKER_USE_SINGLE_PROCESS": "1",
        "TRTLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
    }.items() <= library().environment.items()


def test_the_precision_of_a_checkpoint_is_named(backend: TensorrtLlmBackend) -> None:
    assert "bfloat16" == backend.describe()["precision"]


def test_a_missing_folder_and_another_format_are_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="No such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(LoadError, match="Expected weights as `tensorrt` or `safetensors`, got `gguf`"):
        load(tmp_path, "gguf")
