"""The tiny GPT-2 checkpoint repeats byte for byte and decodes without near-ties."""

import hashlib
import json
import os
import random
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
safetensors_numpy = pytest.importorskip("safetensors.numpy")
tokenizers = pytest.importorskip("tokenizers")

PACKAGE = Path(__file__).parents[2] / "targets" / "tiny_gpt2"
END = 511
LAYER: dict[str, tuple[int, ...]] = {
    "attn.c_attn": (256, 768),
    "attn.c_proj": (256, 256),
    "ln_1": (256,),
    "ln_2": (256,),
    "mlp.c_fc": (256, 1024),
    "mlp.c_proj": (1024, 256),
}


def make(out: Path, *, seed: int = 0, umask: int = 0o022, environment: Mapping[str, str] | None = None) -> Path:
    """Run make_model.py in an environment that holds nothing but what is given."""
    command = [sys.executable, "-B", str(PACKAGE / "make_model.py"), "--seed", str(seed)]
    command += ["--corpus", str(PACKAGE / "corpus.txt"), "--out", str(out)]
    subprocess.run(command, check=True, env=environment or {}, umask=umask, cwd=out.parent)
    return out


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("model") / "out")


def test_the_folder_holds_a_hugging_face_checkpoint(checkpoint: Path) -> None:
    assert sorted(os.listdir(checkpoint)) == [
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ]


@pytest.mark.parametrize(
    ("umask", "environment"),
    [
        pytest.param(0o022, {"PYTHONHASHSEED": "1"}, id="hash seed 1"),
        pytest.param(0o022, {"PYTHONHASHSEED": "2"}, id="hash seed 2"),
        pytest.param(0o077, {"LC_ALL": "C", "TZ": "Asia/Tokyo"}, id="umask, locale and zone"),
        pytest.param(0o022, {"RAYON_NUM_THREADS": "1"}, id="one thread"),
        pytest.param(0o022, {"NPY_DISABLE_CPU_FEATURES": "AVX2"}, id="older processor"),
    ],
)
def test_surroundings_leave_the_bytes_alone(
    checkpoint: Path, tmp_path: Path, umask: int, environment: dict[str, str]
) -> None:
    again = make(tmp_path / "out", umask=umask, environment=environment)

    assert digests(again) == digests(checkpoint)


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    folder = make(tmp_path / "out", umask=0o077)

    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}


def test_another_seed_changes_the_weights_alone(checkpoint: Path, tmp_path: Path) -> None:
    first, second = digests(checkpoint), digests(make(tmp_path / "out", seed=1))
    changed = {name for name in first if first[name] != second[name]}

    assert changed == {"model.safetensors"}


def test_tensors_have_the_names_and_shapes_of_gpt2(checkpoint: Path) -> None:
    expected: dict[str, tuple[int, ...]]
    expected = {"wte.weight": (512, 256), "wpe.weight": (256, 256)}
    expected |= {"ln_f.weight": (256,), "ln_f.bias": (256,)}
    for layer in range(2):
        expected |= {f"h.{layer}.{name}.weight": shape for name, shape in LAYER.items()}
        expected |= {f"h.{layer}.{name}.bias": shape[-1:] for name, shape in LAYER.items()}
    tensors = safetensors_numpy.load_file(checkpoint / "model.safetensors")

    assert len(expected) == 28
    assert {name: (part.shape, part.dtype.name) for name, part in tensors.items()} == {
        f"transformer.{name}": (shape, "float32") for name, shape in expected.items()
    }


def test_the_header_of_the_weights_says_their_format_and_no_version(checkpoint: Path) -> None:
    content = (checkpoint / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])

    assert header["__metadata__"] == {"format": "pt"}


@pytest.mark.parametrize("package", ["numpy", "safetensors", "tokenizers", "transformers"])
def test_no_library_is_named_in_the_json(checkpoint: Path, package: str) -> None:
    assert not [path for path in checkpoint.glob("*.json") if f'"{package}' in path.read_text()]


def test_the_configuration_is_the_one_that_backends_need(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())

    assert (config["n_embd"], config["n_head"], config["n_positions"]) == (256, 4, 256)
    assert (config["bos_token_id"], config["eos_token_id"]) == (END, END)


@pytest.mark.parametrize("text", ["The build works.", "  two\n\nlines\t", "naïve 日本語 🙂", "\0"])
def test_any_text_survives_the_tokenizer(checkpoint: Path, text: str) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))

    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_end_token_is_one_token(checkpoint: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))

    assert tokenizer.encode("<|endoftext|>").ids == [END]


class Decoder:
    """Greedy decoding by transformers."""

    def __init__(self, folder: Path) -> None:
        self.torch = pytest.importorskip("torch")
        self.transformers = pytest.importorskip("transformers")
        self.model, self.loading = self.transformers.AutoModelForCausalLM.from_pretrained(
            folder, output_loading_info=True
        )
        self.tokenizer = self.transformers.AutoTokenizer.from_pretrained(folder)

    def decode(self, prompts: list[list[int]], count: int) -> tuple[list[list[int]], float]:
        """Return the tokens that follow each prompt, padded on the left, and the least gap."""
        width = max(map(len, prompts))
        rows = [[END] * (width - len(prompt)) + prompt for prompt in prompts]
        masks = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        result: Any = self.model.generate(
            input_ids=self.torch.tensor(rows),
            attention_mask=self.torch.tensor(masks),
            max_new_tokens=count,
            do_sample=False,
            pad_token_id=END,
            output_logits=True,
            return_dict_in_generate=True,
        )
        best = self.torch.stack(result.logits).topk(2).values
        return result.sequences[:, width:].tolist(), float((best[..., 0] - best[..., 1]).min())


@pytest.fixture(scope="module")
def decoder(checkpoint: Path) -> Decoder:
    return Decoder(checkpoint)


def draw_prompts(count: int, *, shortest: int = 1) -> list[list[int]]:
    draw = random.Random(count)
    lengths = [draw.randint(shortest, 60) for _ in range(count)]
    return [[draw.randrange(END) for _ in range(length)] for length in lengths]


def test_transformers_finds_every_weight(decoder: Decoder) -> None:
    assert not any(decoder.loading.values())


def test_the_best_token_is_far_ahead_at_every_step(decoder: Decoder) -> None:
    """The gap that others need is 0.02; the wiring gives over 5 (see make_model.py)."""
    repeated = [[token] * 20 for token in range(0, END, 50)]
    _, gap = decoder.decode(draw_prompts(64) + repeated, 32)

    assert gap > 5


def test_generation_fills_all_positions_without_the_end_token(decoder: Decoder) -> None:
    tokens, gap = decoder.decode([[0]], 255)

    assert gap > 5
    assert END not in tokens[0]
    assert len(set(tokens[0])) > 50


def test_generated_text_is_tokenised_as_it_was_generated(decoder: Decoder) -> None:
    tokens, _ = decoder.decode(draw_prompts(16), 64)
    texts = [decoder.tokenizer.decode(row) for row in tokens]

    assert [decoder.tokenizer(text)["input_ids"] for text in texts] == tokens
    assert all(text.isascii() and text.isprintable() for text in texts)


def test_each_token_of_the_prompt_matters(decoder: Decoder) -> None:
    prompt = draw_prompts(1, shortest=24)[0][:24]
    changed = [
        [(token + 1) % END if place == other else token for place, token in enumerate(prompt)]
        for other in range(len(prompt))
    ]
    (original, *others), _ = decoder.decode([prompt, *changed], 48)

    assert original not in others


def test_padding_and_cache_do_not_matter(decoder: Decoder) -> None:
    prompts = draw_prompts(8)
    batched, _ = decoder.decode(prompts, 32)
    for prompt, tokens in zip(prompts, batched, strict=True):
        logits = decoder.model(decoder.torch.tensor([prompt + tokens])).logits[0]

        assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == tokens


def test_positions_matter(decoder: Decoder) -> None:
    """A server that counts positions from the padding gives another text."""
    prompts = draw_prompts(16, shortest=2)
    ends = []
    for first in range(2):
        for prompt in prompts:
            positions = decoder.torch.arange(first, first + len(prompt))[None]
            output = decoder.model(decoder.torch.tensor([prompt]), position_ids=positions)
            ends.append(int(output.logits[0, -1].argmax()))
    same = sum(one == other for one, other in zip(ends[:16], ends[16:], strict=True))

    assert same <= 2
