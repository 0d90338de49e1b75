"""The transformers backend gives what plain transformers gives, token for token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402

from forge_runtime import LoadError, Sampling  # noqa: E402
from forge_runtime.backend import Outcome, Prompt  # noqa: E402
from forge_runtime.backends.transformers import TransformersBackend  # noqa: E402
from forge_runtime.config import ModelConfig, Params  # noqa: E402
from tests.runtime.fake import make_config, serving  # noqa: E402
from tests.runtime.reader import Reader, ask, generations, refusal, run  # noqa: E402

# Threads that wait for each other on a busy machine take twenty times as long.
torch.set_num_threads(1)

POSITIONS = 64
END = "<|endoftext|>"
PROMPTS = (
    "a",
    "The build reads its inputs by digest",
    "one two three four five",
    "x y",
    "grüße, 世界",
)
CORPUS = (
    "The build system reads its inputs by digest and runs only what has changed.",
    "one two three four five six seven eight nine ten",
)


@dataclass(frozen=True)
class Model:
    """A model on disk, and the same one loaded by transformers alone."""

    path: Path

    def expected(self, prompt: str, *, max_length: int = POSITIONS, new: int | None = None) -> list[int]:
        model = transformers.AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.float32)
        inputs = self.tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        length = inputs["input_ids"].shape[1]
        limit = min(max_length - length, new or max_length)
        output = model.generate(**inputs, do_sample=False, max_new_tokens=limit)
        return list(output[0, length:].tolist())

    def text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    @cached_property
    def tokenizer(self) -> Any:
        return transformers.AutoTokenizer.from_pretrained(self.path)


def make_model(path: Path, *, seed: int, change: Callable[[object], None] = lambda _: None) -> Model:
    """Write a random GPT-2 whose next token has no near rival."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
    fast.save_pretrained(path)
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=len(fast),
        n_positions=POSITIONS,
        n_embd=64,
        n_layer=2,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    change(model)
    model.save_pretrained(path)
    return Model(path)


def load(model: Model, **params: object) -> TransformersBackend:
    backend = TransformersBackend()
    backend.load(ModelConfig("tiny", model.path), replace(Params(precision="fp32"), **params))  # type: ignore[arg-type]
    return backend


def ids(outcomes: Sequence[Outcome]) -> list[list[int]]:
    return [list(result.token_ids) for result in generations(outcomes)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_model(tmp_path_factory.mktemp("model"), seed=1)


@pytest.fixture(scope="module")
def backend(model: Model) -> TransformersBackend:
    return load(model)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text_is_that_of_plain_generate(model: Model, backend: TransformersBackend, prompt: str) -> None:
    expected = model.expected(prompt)

    (result,) = generations(run(backend, *ask(prompt, sampling=Sampling(POSITIONS))))

    assert list(result.token_ids) == expected
    assert result.text == model.text(expected)
    assert result.generated_tokens == len(expected)


def test_a_padded_batch_is_that_of_plain_generate(model: Model, backend: TransformersBackend) -> None:
    expected = [model.expected(prompt) for prompt in PROMPTS]

    assert ids(run(backend, *ask(*PROMPTS, sampling=Sampling(POSITIONS)))) == expected


def test_the_order_in_a_batch_does_not_matter(model: Model, backend: TransformersBackend) -> None:
    expected = [model.expected(prompt, new=9) for prompt in reversed(PROMPTS)]

    assert ids(run(backend, *ask(*PROMPTS[::-1], sampling=Sampling(POSITIONS, max_new_tokens=9)))) == expected


def favour_the_end(model: object) -> None:
    with torch.no_grad():
        model.transformer.wte.weight[0] *= 2.5  # type: ignore[attr-defined]


def look_back(model: object, name: str, value: float) -> None:
    favour_the_end(model)
    setattr(model.generation_config, name, value)  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(2, 6))
def test_rows_that_end_early_do_not_disturb_the_others(tmp_path: Path, seed: int) -> None:
    model = make_model(tmp_path, seed=seed, change=favour_the_end)
    expected = [model.expected(prompt) for prompt in PROMPTS]

    assert ids(run(load(model), *ask(*PROMPTS, sampling=Sampling(POSITIONS)))) == expected


@pytest.mark.parametrize(("name", "value"), [("repetition_penalty", 1.5), ("no_repeat_ngram_size", 1)])
def test_padding_is_no_text_that_a_processor_sees(tmp_path: Path, name: str, value: float) -> None:
    model = make_model(tmp_path, seed=5, change=lambda made: look_back(made, name, value))
    expected = [model.expected(prompt) for prompt in PROMPTS]

    assert ids(run(load(model), *ask(*PROMPTS, sampling=Sampling(POSITIONS)))) == expected


def test_each_prompt_has_a_sampling_of_its_own(model: Model, backend: TransformersBackend) -> None:
    drawn = Sampling(40, do_sample=True, temperature=2.0, seed=3)
    prompts = [
        Prompt("a", Sampling(POSITIONS, max_new_tokens=3)),
        Prompt("x y", drawn),
        Prompt("one two", Sampling(12)),
        Prompt("one two three four five", Sampling(POSITIONS, do_sample=True, temperature=5.0)),
        Prompt("x y", drawn),
    ]

    results = generations(run(backend, *prompts))

    assert list(results[0].token_ids) == model.expected("a", new=3)
    assert list(results[2].token_ids) == model.expected("one two", max_length=12)
    assert results[1] == results[4] == generations(run(backend, Prompt("x y", drawn)))[0]


def test_a_seed_draws_the_same_alone_and_in_any_batch(backend: TransformersBackend) -> None:
    prompts = [
        Prompt(text, Sampling(POSITIONS, do_sample=True, temperature=100, seed=seed))
        for seed, text in enumerate(PROMPTS)
    ]
    greedy = ask("a long neighbour that is greedy", sampling=Sampling(POSITIONS))
    alone = [run(backend, prompt)[0] for prompt in prompts]

    assert list(run(backend, *prompts[::-1], *greedy)[:-1]) == alone[::-1]


def test_what_follows_a_seed_is_not_foretold_by_it(backend: TransformersBackend) -> None:
    drawn = Sampling(POSITIONS, do_sample=True, temperature=100)

    def follow() -> list[list[int]]:
        run(backend, Prompt("a", Sampling(9, do_sample=True, temperature=100, seed=1)))
        return ids(run(backend, Prompt("a", drawn)))

    assert follow() != follow()


def test_max_length_counts_the_prompt(backend: TransformersBackend) -> None:
    (result,) = generations(run(backend, *ask("a", sampling=Sampling(10))))

    assert result.prompt_tokens + result.generated_tokens == 10
    assert result.finish_reason == "length"


def test_the_models_positions_cap_max_length(backend: TransformersBackend) -> None:
    results = generations(run(backend, *ask(*PROMPTS, sampling=Sampling(10 * POSITIONS))))

    assert POSITIONS == max(result.prompt_tokens + result.generated_tokens for result in results)


def test_a_prompt_that_leaves_no_room_is_refused_and_its_neighbours_run(
    model: Model, backend: TransformersBackend
) -> None:
    outcomes = run(backend, *ask("a", "x " * POSITIONS, "", "x y", sampling=Sampling(POSITIONS)))

    assert refusal(outcomes[1]) == (400, "context_length_exceeded")
    assert refusal(outcomes[2]) == (400, "invalid_value")
    assert ids([outcomes[0], outcomes[3]]) == [model.expected("a"), model.expected("x y")]


def test_a_seed_repeats_and_another_does_not(backend: TransformersBackend) -> None:
    def sample(seed: int) -> list[list[int]]:
        return ids(run(backend, *ask("a", sampling=Sampling(POSITIONS, do_sample=True, temperature=100, seed=seed))))

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_temperature_0_is_greedy(model: Model, backend: TransformersBackend) -> None:
    sampling = Sampling(POSITIONS, do_sample=True, temperature=0)

    assert ids(run(backend, *ask("a", sampling=sampling))) == [model.expected("a")]


def test_the_pieces_are_the_text(backend: TransformersBackend) -> None:
    reader = Reader()
    silent = Prompt("a", Sampling(POSITIONS))

    results = generations(
        run(backend, *ask(*PROMPTS, sampling=Sampling(POSITIONS), streams=True), silent, reader=reader)
    )

    assert [reader.text(index) for index in range(len(PROMPTS))] == [result.text for result in results[:-1]]
    assert sum(map(len, reader.heard.values())) > 10 * len(PROMPTS)
    assert len(PROMPTS) not in reader.heard


def test_generation_ends_at_a_stop_sequence(model: Model, backend: TransformersBackend) -> None:
    expected, stop = model.expected("a"), "ha"  # part of a token
    whole = model.text(expected)
    reader = Reader()

    stopped, other = generations(
        run(backend, Prompt("a", Sampling(POSITIONS, stop=(stop,)), True), Prompt("x y", Sampling(20)), reader=reader)
    )

    assert stopped.text == reader.text(0) == whole[: whole.index(stop)]
    assert stopped.finish_reason == "stop"
    assert list(stopped.token_ids) == expected[: stopped.generated_tokens]
    assert stop in model.text(stopped.token_ids)
    assert stop not in model.text(stopped.token_ids[:-1])
    assert list(other.token_ids) == model.expected("x y", max_length=20)


def test_a_prompt_that_nobody_waits_for_ends_alone(model: Model, backend: TransformersBackend) -> None:
    reader = Reader(leaves={1: 6})

    left, gone, right = generations(run(backend, *ask("a", "x y", "one", sampling=Sampling(POSITIONS)), reader=reader))

    assert (gone.finish_reason, gone.generated_tokens < 6) == ("cancelled", True)
    assert list(gone.token_ids) == model.expected("x y")[: gone.generated_tokens]
    assert ids([left, right]) == [model.expected("a"), model.expected("one")]


def test_what_nobody_waits_for_is_not_begun(backend: TransformersBackend) -> None:
    outcomes = generations(run(backend, *ask("a", "x y", sampling=Sampling(POSITIONS)), reader=Reader({0: 1, 1: 1})))

    assert [(result.finish_reason, result.generated_tokens) for result in outcomes] == [("cancelled", 0)] * 2


def test_what_nobody_waits_for_any_more_when_its_turn_comes_is_not_begun(backend: TransformersBackend) -> None:
    apart = Prompt("x y", Sampling(POSITIONS, do_sample=True, seed=1))

    results = generations(run(backend, Prompt("a", Sampling(9)), apart, reader=Reader({1: 2})))

    assert [("length", 8), ("cancelled", 0)] == [(each.finish_reason, each.generated_tokens) for each in results]


class Exhausted(Reader):
    """Where the accelerator's memory is full in the middle of a batch."""

    def cancelled(self, index: int) -> bool:
        if super().cancelled(index) and index == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")
        return False


def test_a_full_memory_is_an_error_of_that_batch_alone(model: Model, backend: TransformersBackend) -> None:
    greedy = ask("a", "x y", sampling=Sampling(POSITIONS))
    apart = Prompt("a", Sampling(POSITIONS, do_sample=True, temperature=2.0, seed=1))

    outcomes = run(backend, *greedy, apart, reader=Exhausted(leaves={1: 5}))

    assert [refusal(outcome) for outcome in outcomes[:2]] == [(503, "out_of_memory")] * 2
    assert outcomes[2] == run(backend, apart)[0]
    assert ids(run(backend, *greedy[:1])) == [model.expected("a")]


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", "float32"), ("fp16", "float16"), ("bf16", "bfloat16"), ("auto", "float32")],
)
def test_precision_acts(model: Model, precision: str, dtype: str) -> None:
    backend = load(model, precision=precision)

    assert backend.describe()["precision"] == dtype
    assert generations(run(backend, *ask("a", sampling=Sampling(8))))


def test_num_threads_acts(model: Model) -> None:
    before = torch.get_num_threads()
    try:
        assert load(model, num_threads=1).describe()["threads"] == 1
        assert load(model, num_threads=2).describe()["threads"] == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an accelerator")
@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"device_index": 1}, r"No accelerator `1`, this process sees \[none\]"),
        ({"gpu_memory_share": 0.5}, "no accelerator"),
    ],
    ids=["device_index", "gpu_memory_share"],
)
def test_an_accelerator_that_is_not_there_is_named(model: Model, params: dict[str, object], expected: str) -> None:
    with pytest.raises(LoadError, match=expected):
        load(model, **params)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="No such folder"):
        load(Model(tmp_path / "nowhere"))


def test_greedy_text_over_http_is_that_of_plain_generate(model: Model) -> None:
    config = make_config(params=Params(batch_size=2, max_length=POSITIONS, precision="fp32", num_threads=1))
    config = replace(config, model=ModelConfig("tiny", model.path))
    expected = {prompt: model.text(model.expected(prompt)) for prompt in PROMPTS}

    with serving(TransformersBackend(), config) as client:
        assert client.infer(*PROMPTS).json == expected
        assert client.infer("x " * POSITIONS).status == 400
        assert client.infer(" ").status == 200
