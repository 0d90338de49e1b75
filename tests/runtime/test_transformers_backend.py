"""The transformers backend gives what plain transformers gives, token for token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402

from forge_runtime import Generation, LoadError, RequestError, Sampling  # noqa: E402
from forge_runtime.backends.transformers import TransformersBackend  # noqa: E402
from forge_runtime.config import ModelConfig, Params  # noqa: E402
from tests.runtime.fake import make_config, serving  # noqa: E402

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
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.path)
        model = transformers.AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.float32)
        inputs = tokenizer(prompt, return_tensors="pt")
        length = inputs["input_ids"].shape[1]
        limit = min(max_length - length, new or max_length)
        output = model.generate(**inputs, do_sample=False, max_new_tokens=limit)
        return list(output[0, length:].tolist())

    def text(self, ids: Sequence[int]) -> str:
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.path)
        return str(tokenizer.decode(ids, skip_special_tokens=True))


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


def ids(results: Sequence[Generation]) -> list[list[int]]:
    return [list(result.token_ids) for result in results]


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_model(tmp_path_factory.mktemp("model"), seed=1)


@pytest.fixture(scope="module")
def backend(model: Model) -> TransformersBackend:
    return load(model)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text_is_that_of_plain_generate(model: Model, backend: TransformersBackend, prompt: str) -> None:
    expected = model.expected(prompt)

    (result,) = backend.generate([prompt], Sampling(POSITIONS), never)

    assert list(result.token_ids) == expected
    assert result.text == model.text(expected)
    assert result.generated_tokens == len(expected)


def test_a_padded_batch_is_that_of_plain_generate(model: Model, backend: TransformersBackend) -> None:
    expected = [model.expected(prompt) for prompt in PROMPTS]

    assert ids(backend.generate(PROMPTS, Sampling(POSITIONS), never)) == expected


def test_the_order_in_a_batch_does_not_matter(model: Model, backend: TransformersBackend) -> None:
    expected = [model.expected(prompt, new=9) for prompt in reversed(PROMPTS)]
    sampling = Sampling(POSITIONS, max_new_tokens=9)

    assert ids(backend.generate(PROMPTS[::-1], sampling, never)) == expected


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

    assert ids(load(model).generate(PROMPTS, Sampling(POSITIONS), never)) == expected


@pytest.mark.parametrize(("name", "value"), [("repetition_penalty", 1.5), ("no_repeat_ngram_size", 1)])
def test_padding_is_no_text_that_a_processor_sees(tmp_path: Path, name: str, value: float) -> None:
    model = make_model(tmp_path, seed=5, change=lambda made: look_back(made, name, value))
    expected = [model.expected(prompt) for prompt in PROMPTS]

    assert ids(load(model).generate(PROMPTS, Sampling(POSITIONS), never)) == expected


def test_max_length_counts_the_prompt(model: Model, backend: TransformersBackend) -> None:
    (result,) = backend.generate(["a"], Sampling(10), never)

    assert result.prompt_tokens + result.generated_tokens == 10
    assert result.finish_reason == "length"


def test_the_models_positions_cap_max_length(model: Model, backend: TransformersBackend) -> None:
    (result,) = backend.generate(["a"], Sampling(10 * POSITIONS), never)

    assert result.prompt_tokens + result.generated_tokens <= POSITIONS


def test_a_prompt_that_leaves_no_room_is_refused(backend: TransformersBackend) -> None:
    with pytest.raises(RequestError) as caught:
        backend.generate(["a", "x " * POSITIONS], Sampling(POSITIONS), never)

    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")


def test_a_seed_repeats_and_another_does_not(backend: TransformersBackend) -> None:
    def sample(seed: int) -> list[list[int]]:
        sampling = Sampling(POSITIONS, do_sample=True, temperature=100, seed=seed)
        return ids(backend.generate(["a", "x y"], sampling, never))

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_temperature_0_is_greedy(model: Model, backend: TransformersBackend) -> None:
    sampling = Sampling(POSITIONS, do_sample=True, temperature=0)

    assert ids(backend.generate(["a"], sampling, never)) == [model.expected("a")]


def test_generation_ends_when_nobody_waits(backend: TransformersBackend) -> None:
    asked = iter([False, False, False])

    (result,) = backend.generate(["a"], Sampling(POSITIONS), lambda: next(asked, True))

    assert result.finish_reason == "cancelled"
    assert result.generated_tokens < 10


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", "float32"), ("fp16", "float16"), ("bf16", "bfloat16"), ("auto", "float32")],
)
def test_precision_acts(model: Model, precision: str, dtype: str) -> None:
    backend = load(model, precision=precision)

    assert backend.describe()["precision"] == dtype
    assert backend.generate(["a"], Sampling(8), never)


def test_num_threads_acts(model: Model) -> None:
    before = torch.get_num_threads()
    try:
        assert load(model, num_threads=1).describe()["threads"] == 1
        assert load(model, num_threads=2).describe()["threads"] == 2
    finally:
        torch.set_num_threads(before)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="No such folder"):
        load(Model(tmp_path / "nowhere"))


def test_greedy_text_over_http_is_that_of_plain_generate(model: Model) -> None:
    config = make_config(params=Params(batch_size=2, max_length=POSITIONS, precision="fp32"))
    config = replace(config, model=ModelConfig("tiny", model.path))
    expected = {prompt: model.text(model.expected(prompt)) for prompt in PROMPTS}

    with serving(TransformersBackend(), config) as client:
        assert client.infer(*PROMPTS).json == expected
        assert client.infer("x " * POSITIONS).status == 400
        assert client.infer(" ").status == 200
