"""The vLLM backend, against a fake of the engine: what it asks for, and what it makes of each step.

Not run against vLLM itself: its wheels need an accelerator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forge_runtime import Generation, LoadError, Sampling
from forge_runtime.backend import Prompt, TextBackend
from forge_runtime.backends.vllm import VllmBackend
from forge_runtime.config import ModelConfig, Params
from tests.runtime.fake_frameworks.byte_model import END, ENDLESS
from tests.runtime.frameworks import fake_frameworks, write_model
from tests.runtime.reader import Reader, ask, generations, refusal, run

ANSWERS = {"hello": " world", "grüße": ", 世界 🎉", "list": "one\ntwo\nthree\nfour"}
SAMPLING = Sampling(64)


@pytest.fixture(autouse=True)
def framework() -> Iterator[None]:
    with fake_frameworks("vllm"):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path, ANSWERS, max_position_embeddings=64)


@pytest.fixture
def backend(folder: Path) -> VllmBackend:
    return load(folder)


def load(folder: Path, **params: object) -> VllmBackend:
    backend = VllmBackend()
    backend.load(ModelConfig("tiny", folder), replace(Params(batch_size=4), **params))  # type: ignore[arg-type]
    return backend


def library() -> Any:
    import vllm  # type: ignore[import-not-found, unused-ignore]

    return vllm


def opened() -> Any:
    """Return the LLM that was made last."""
    return library().opened[-1]


def test_it_is_a_backend_of_text() -> None:
    assert isinstance(VllmBackend(), TextBackend)


def test_a_text_is_continued_to_its_end(backend: VllmBackend) -> None:
    expected = Generation(" world", 5, 7, (*b" world", END), "stop")

    assert [expected] == run(backend, *ask("hello", sampling=SAMPLING))


def test_order_is_kept_and_each_prompt_has_a_sampling_of_its_own(backend: VllmBackend) -> None:
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
    backend = load(write_model(tmp_path, ANSWERS, tokens_per_step=at_once))
    reader = Reader()

    (result,) = generations(run(backend, *ask("grüße", sampling=SAMPLING, streams=True), reader=reader))

    assert result.text == reader.text(0) == ", 世界 🎉"
    assert [",", " ", "世", "界", " ", "🎉"] == reader.heard[0]


def test_a_token_that_ends_the_text_is_no_part_of_it(tmp_path: Path) -> None:
    backend = load(write_model(tmp_path, ANSWERS, end=ord("#")))

    (result,) = generations(run(backend, *ask("hello", sampling=SAMPLING)))

    assert (" world", "stop", tuple(b" world#")) == (result.text, result.finish_reason, result.token_ids)


def test_a_stop_ends_the_request_in_the_engine(backend: VllmBackend) -> None:
    run(backend, *ask("so ", sampling=Sampling(64, stop=("so on",))))

    assert 1 == len(opened().llm_engine.aborted)


def test_tokens_after_a_stop_in_the_same_step_are_dropped(tmp_path: Path) -> None:
    backend = load(write_model(tmp_path, ANSWERS, tokens_per_step=50))

    (result,) = generations(run(backend, *ask("list", sampling=Sampling(64, stop=("tw",)))))

    assert ("one\n", tuple(b"one\ntw")) == (result.text, result.token_ids)


def test_a_prompt_that_nobody_waits_for_leaves_the_engine_alone(backend: VllmBackend) -> None:
    reader = Reader(leaves={1: 4})

    first, gone, last = generations(run(backend, *ask("hello", "so ", "list", sampling=SAMPLING), reader=reader))

    assert ("cancelled", ENDLESS[:2]) == (gone.finish_reason, gone.text)
    assert 1 == len(opened().llm_engine.aborted)
    assert [" world", ANSWERS["list"]] == [first.text, last.text]


def test_what_nobody_waits_for_is_not_begun(backend: VllmBackend) -> None:
    (result,) = generations(run(backend, *ask("hello", sampling=SAMPLING), reader=Reader(leaves={0: 1})))

    assert ("cancelled", 0, []) == (result.finish_reason, result.generated_tokens, opened().llm_engine.seen)


def test_a_prompt_that_leaves_no_room_is_refused_and_its_neighbours_run(backend: VllmBackend) -> None:
    hot = Prompt("hello", Sampling(64, do_sample=True, temperature=3.0))
    outcomes = run(backend, *ask("x" * 64, "", sampling=Sampling(1000)), hot, *ask("hello", sampling=SAMPLING))

    assert [
        (400, "context_length_exceeded"),
        (400, "invalid_value"),
        (400, "invalid_value"),
    ] == [refusal(outcome) for outcome in outcomes[:3]]
    assert " world" == generations(outcomes[3:])[0].text


def test_greedy_and_drawn_are_asked_for_with_what_is_the_models_own(backend: VllmBackend) -> None:
    drawn = Sampling(64, do_sample=True, temperature=0.5, top_p=0, seed=7, max_new_tokens=9)
    run(backend, Prompt("hello", Sampling(64, temperature=0.9)), Prompt("hello", drawn))

    greedy, other = opened().llm_engine.seen

    assert (0.0, None, 59) == (greedy.temperature, greedy.seed, greedy.max_tokens)
    assert (0.5, 7, 9) == (other.temperature, other.seed, other.max_tokens)
    assert 0 < other.top_p < 1e-5
    assert (20, 1.05) == (other.top_k, other.repetition_penalty)


def test_a_seed_draws_the_same_alone_and_in_any_batch(backend: VllmBackend) -> None:
    prompts = [Prompt("so ", Sampling(64, do_sample=True, seed=seed)) for seed in (1, 2)]
    alone = [run(backend, prompt)[0] for prompt in prompts]

    assert alone[::-1] == list(run(backend, *prompts[::-1], *ask("hello", sampling=SAMPLING)))[:2]
    assert alone[0] != alone[1]


def test_more_prompts_than_the_engine_runs_at_a_time_are_all_answered(folder: Path) -> None:
    backend = load(folder, batch_size=2)

    results = generations(run(backend, *ask(*["hello"] * 7, sampling=SAMPLING)))

    assert [" world"] * 7 == [result.text for result in results]


@pytest.mark.parametrize("config", [{"dies_at": "1"}, {}], ids=["a step raises", "a prompt ends in an error"])
def test_an_engine_that_fails_is_an_error_and_keeps_no_request(tmp_path: Path, config: dict[str, object]) -> None:
    backend = load(write_model(tmp_path, ANSWERS, **config))

    with pytest.raises(RuntimeError, match="EngineCore|vLLM ended a prompt with `error`"):
        run(backend, *ask("so ", "!" if not config else "so ", sampling=SAMPLING))

    assert not opened().llm_engine.has_unfinished_requests()


def test_the_parameters_act(folder: Path) -> None:
    load(folder, device_index=2, num_threads=3, precision="bf16", gpu_memory_share=0.4, max_length=32, batch_size=5)

    assert {
        "CUDA_VISIBLE_DEVICES": "2",
        "OMP_NUM_THREADS": "3",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }.items() <= library().environment.items()
    assert (0.4, "bfloat16", 5) == (
        opened().gpu_memory_utilization,
        opened().options["dtype"],
        opened().options["max_num_seqs"],
    )
    assert 32 == opened().llm_engine.model_config.max_model_len


def test_it_reaches_no_network_and_starts_no_process(folder: Path) -> None:
    load(folder)

    assert {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
    }.items() <= library().environment.items()


def test_the_share_of_memory_is_the_librarys_where_none_is_asked_for(backend: VllmBackend) -> None:
    assert 0.92 == opened().gpu_memory_utilization


def test_texts_without_a_seed_differ_after_each_start(folder: Path) -> None:
    prompt = Prompt("so ", Sampling(64, do_sample=True))

    assert run(load(folder), prompt) != run(load(folder), prompt)


def test_it_describes_what_came_of_it(folder: Path) -> None:
    assert {
        "backend": "vllm",
        "device": "cuda:1",
        "precision": "float16",
        "context": 64,
    } == load(folder, device_index=1, precision="fp16").describe()


def test_what_the_library_refuses_is_a_load_error_on_one_line(tmp_path: Path) -> None:
    folder = write_model(tmp_path, {}, max_position_embeddings=0.5)  # which is no length

    with pytest.raises(LoadError, match=r"max_model_len \(1024\) is greater than 0.5"):
        load(folder)


def test_a_missing_folder_and_another_format_are_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="No such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(LoadError, match="Expected weights as `safetensors`, got `gguf`"):
        VllmBackend().load(ModelConfig("tiny", tmp_path, "gguf"), Params())
