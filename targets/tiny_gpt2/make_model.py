"""Make a tiny GPT-2 checkpoint whose greedy decoding has no near-ties.

The weights are not trained but wired. Every field of the residual stream holds +1 and -1 in
equal numbers, so that each layer norm is an exact scaling, and the model computes a hash of
what it has read:

- Each token has a random code, far from all others. Each position holds its own code and the
  codes of eight earlier positions, which the eight heads look up: a head reads one position.
- Layer 0 reads the four tokens before. Its MLP makes ten bits, each the exclusive or of a bit
  of these, of the own token and of the own position, and erases the token.
- Layer 1 reads some of these bits at four earlier positions, two of which sweep over all of
  the text. Its MLP looks ten bits up in a table and writes the code of the token found there.

So the next token is ahead by the distance of the codes, over five in the logits, at each step
of each text, and it depends on the whole text and on the position. Only words, the comma and
the full stop stand in the table: the end token, single bytes and fragments are never chosen,
and a generated text is tokenised again as it was generated.

The numbers come from SHA-256, square roots and exact products: no processor, thread count or
library build makes them differ.
"""

import argparse
import hashlib
import itertools
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

WIDTH, HEADS, HEAD, LAYERS, POSITIONS, HIDDEN, VOCABULARY = 256, 4, 64, 2, 256, 1024, 512
END = "<|endoftext|>"

# Fields of the residual stream, by their first dimension. A computed bit b is held as b and -b.
ID, BITS, OWN = 12, 10, 4
READERS = (0, 1, 2, 2, 3, 3)  # the heads that read the hash's bits after the first four
IDENTITY = 0  # 12: which token this is, six of twelve
CODE = 12  # 54: the rest of the token's code
HERE = 66  # 12: which position this is, six of twelve
NEAR = 78  # 4 x 12: the positions that the heads of layer 0 read
FAR = 126  # 4 x 12: the positions that the heads of layer 1 read
SEEN = 174  # 4 x 12: the identities that layer 0 read
HASH = 222  # 2 x 10: the bits that the MLP of layer 0 made of them
HEARD = 242  # 2 x 6: the bits that layer 1 read
WORD = 254  # 2: whether this token may be generated
SPELLING = HERE  # the token's code is IDENTITY and CODE

CLOSEST = 22
"""The largest product of two tokens' codes, of 66."""
PEAK, BIAS = 8.0, 2.0
"""The logit of the chosen token; half of what words gain and of what other tokens lose."""
SHARPNESS = 8.0
"""Gain of query and of key: attention to the runner-up is exp(-32)."""
STEEP = 4.0
"""Gain before GELU for one unit of a sum: gelu(8) is 8 and gelu(-8) is 0 in float32."""
LOUD = 4.0
"""Amplitude of the chosen token's code; all other fields have 1."""

T = TypeVar("T")
Code = tuple[int, ...]
Array = npt.NDArray[np.float32]


def main() -> None:
    """Read the corpus and write the checkpoint."""
    parser = argparse.ArgumentParser(description="Make a tiny GPT-2 checkpoint.")
    parser.add_argument("--corpus", type=Path, required=True, help="text to train the tokenizer on")
    parser.add_argument("--seed", type=int, required=True, help="seed of the weights")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args()
    corpus = options.corpus.read_text(encoding="utf-8")

    files = make_tokenizer(corpus)
    words = find_words(corpus, Tokenizer.from_str(files["tokenizer.json"].decode()))
    tensors = make_tensors(words, options.seed)
    files["model.safetensors"] = safetensors.numpy.save(tensors, metadata={"format": "pt"})
    files["config.json"] = to_json(CONFIG | ENDS)
    files["generation_config.json"] = to_json(ENDS)

    options.out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (options.out / name).write_bytes(content)
        (options.out / name).chmod(0o644)


CONFIG = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "layer_norm_epsilon": 1e-5,
    "model_type": "gpt2",
    "n_embd": WIDTH,
    "n_head": HEADS,
    "n_layer": LAYERS,
    **dict.fromkeys(("n_ctx", "n_positions"), POSITIONS),
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "vocab_size": VOCABULARY,
}
ENDS = {"bos_token_id": VOCABULARY - 1, "eos_token_id": VOCABULARY - 1}


def make_tokenizer(corpus: str) -> dict[str, bytes]:
    """Train byte-level BPE on the corpus and return the tokenizer's files by name."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - 1, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus.splitlines(), trainer)
    trained = json.loads(tokenizer.to_str())
    merges = [" ".join(pair) for pair in trained["model"]["merges"]]
    # As in GPT-2: bytes first, then merges in their order, and the end token last.
    tokens = [*alphabet, *(merge.replace(" ", "") for merge in merges), END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != VOCABULARY:
        raise SystemExit(f"The corpus gives {len(vocabulary)} tokens, not {VOCABULARY}")

    trained["model"] |= {"vocab": vocabulary, "merges": merges}
    end = {"id": vocabulary[END], "content": END, "special": True, "normalized": False}
    trained["added_tokens"] = [end | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)]
    settings = {
        **dict.fromkeys(("bos_token", "eos_token", "unk_token"), END),
        **dict.fromkeys(("add_prefix_space", "clean_up_tokenization_spaces"), False),
        "model_max_length": POSITIONS,
        "tokenizer_class": "GPT2Tokenizer",
    }
    return {
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]).encode(),
        "tokenizer.json": to_json(trained),
        "tokenizer_config.json": to_json(settings),
        "vocab.json": to_json(vocabulary),
    }


def find_words(corpus: str, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens that are a word of the corpus behind a space, a comma or a full stop."""
    words = sorted(set(re.findall(r"\b[a-z]+\b", corpus)))
    spelt = [tokenizer.encode(text).ids for text in (".", ",", *(f" {word}" for word in words))]
    return [ids[0] for ids in spelt if len(ids) == 1]


def make_tensors(words: Sequence[int], seed: int) -> dict[str, Array]:
    """Return the weights by the names under which transformers saves them."""
    codes = [code for code in itertools.product((1, -1), repeat=ID) if sum(code) == 0]
    places = shuffle(codes, seed, "places")[:POSITIONS]
    spellings = draw_spellings(shuffle(codes, seed, "tokens")[:VOCABULARY], seed)
    orders = [shuffle(range(ID), seed, "order", head) for head in range(HEADS)]
    copies = list(words) * -(-HIDDEN // len(words))
    table = [spellings[word] for word in shuffle(copies, seed, "table")[:HIDDEN]]

    parts = {"wte.weight": embed_tokens(spellings, words), "wpe.weight": embed_positions(places)}
    for layer in range(LAYERS):
        memory = wire_table(table) if layer else wire_hash()
        wired = wire_attention(layer, orders) | memory | wire_norms(layer)
        parts |= {f"h.{layer}.{name}": part for name, part in wired.items()}
    gain, bias = zeros(WIDTH), zeros(WIDTH)
    deviation = math.sqrt((WORD - HERE + SPELLING * LOUD * LOUD) / WIDTH)
    gain[:SPELLING] = PEAK * deviation / (LOUD * SPELLING)
    bias[[WORD, WORD + 1]] = BIAS, -BIAS
    parts |= linear("ln_f", gain, bias)
    return {f"transformer.{name}": part for name, part in parts.items()}


def draw_spellings(identities: Sequence[Code], seed: int) -> list[Code]:
    """Draw a code for each identity, none nearer to another than CLOSEST."""
    signs = (1, -1) * ((HERE - CODE) // 2)
    drawn: dict[int, Code] = {}
    attempts = itertools.count()
    while len(drawn) < len(identities):
        code = (*identities[len(drawn)], *shuffle(signs, seed, "spelling", next(attempts)))
        number = sum(1 << place for place, sign in enumerate(code) if sign > 0)
        if all(SPELLING - 2 * (number ^ other).bit_count() <= CLOSEST for other in drawn):
            drawn[number] = code
    return list(drawn.values())


def embed_tokens(spellings: Sequence[Code], words: Sequence[int]) -> Array:
    """Return wte: each token's code, and whether it is a word."""
    wte = zeros(VOCABULARY, WIDTH)
    wte[:, :SPELLING] = spellings
    wte[:, [WORD, WORD + 1]] = -1, 1
    wte[list(words), WORD:] *= -1
    return wte


def embed_positions(places: Sequence[Code]) -> Array:
    """Return wpe: each position's own code and the codes of those that its heads read."""
    wpe = zeros(POSITIONS, WIDTH)
    for here in range(POSITIONS):
        # Windows of five: layer 0 reads the rest of the own one, layer 1 the ends of four more.
        # Those further back than the third are read in turn.
        near = [max(0, here - back) for back in range(1, 5)]
        turns = max(2, (here - 10) // 5)
        steps = [1, 2, 3 + 2 * here % turns, 3 + (2 * here + 1) % turns]
        far = [here - 5 * step if here >= 5 * step else here for step in steps]
        read = [places[place] for place in (here, *near, *far)]
        wpe[here, HERE:SEEN] = list(itertools.chain.from_iterable(read))
    return wpe


def wire_attention(layer: int, orders: Sequence[Sequence[int]]) -> dict[str, Array]:
    """Let each head find the position that its pointer names and copy a field from there."""
    look, value = zeros(WIDTH, 3 * WIDTH), zeros(WIDTH, WIDTH)
    pointers = FAR if layer else NEAR
    for head in range(HEADS):
        first = head * HEAD
        for place in range(ID):
            look[pointers + head * ID + place, first + place] = SHARPNESS
            look[HERE + place, WIDTH + first + place] = SHARPNESS
        # Each head has its own order of bits, or the order of the tokens would not matter.
        for place, target in enumerate(() if layer else orders[head]):
            look[IDENTITY + place, 2 * WIDTH + first + place] = 1
            value[first + place, SEEN + head * ID + target] = 1
    for (bit, head), half in itertools.product(enumerate(READERS if layer else ()), range(2)):
        channel = head * HEAD + 2 * bit + half
        look[HASH + half * BITS + OWN + bit, 2 * WIDTH + channel] = 1
        value[channel, HEARD + half * len(READERS) + bit] = 1
    return linear("attn.c_attn", look) | linear("attn.c_proj", value)


def wire_hash() -> dict[str, Array]:
    """Make each bit of the hash the parity of six bits, and erase the token."""
    inner, outer = zeros(WIDTH, HIDDEN), zeros(HIDDEN, WIDTH)
    threshold, offset = zeros(HIDDEN), zeros(WIDTH)
    offset[HASH : HASH + 2 * BITS] = [-1] * BITS + [1] * BITS
    # The parity of a sum s of six signs is relu(s) - 2 relu(s - 2) + 2 relu(s - 4) - 1, and the
    # same of -s. Units of one factor fill a block of 32, which quantisers scale together.
    for level, factor in enumerate((1, -2, 2)):
        for bit, sign in itertools.product(range(BITS), (1, -1)):
            unit = 32 * level + 2 * bit + (sign < 0)
            fields = [IDENTITY, HERE, *range(SEEN, HASH, ID)]
            inner[[field + bit for field in fields], unit] = sign * STEEP
            threshold[unit] = -2 * level * STEEP
            outer[unit, [HASH + bit, HASH + BITS + bit]] = factor / STEEP, -factor / STEEP
    # gelu(x) - gelu(-x) is x.
    for order, place in enumerate([*range(SPELLING), WORD, WORD + 1]):
        plus, minus = 96 + order, 192 + order
        inner[place, [plus, minus]] = STEEP, -STEEP
        outer[[plus, minus], place] = -1 / STEEP, 1 / STEEP
    return linear("mlp.c_fc", inner, threshold) | linear("mlp.c_proj", outer, offset)


def wire_table(table: Sequence[Code]) -> dict[str, Array]:
    """Let one of 1024 units answer, that whose ten bits are those read, with a token's code."""
    inner, outer = zeros(WIDTH, HIDDEN), zeros(HIDDEN, WIDTH)
    pairs = [(HASH + bit, HASH + BITS + bit) for bit in range(OWN)]
    pairs += [(HEARD + bit, HEARD + bit + len(READERS)) for bit in range(len(READERS))]
    for unit, signs in enumerate(itertools.product((1, -1), repeat=BITS)):
        for pair, sign in zip(pairs, signs, strict=True):
            inner[list(pair), unit] = sign * STEEP, -sign * STEEP
    # Ten bits agree: 2 STEEP is left. Nine do: -2 STEEP, and the unit is silent.
    threshold = zeros(HIDDEN) - np.float32(2 * (BITS - 1) * STEEP)
    outer[:, :SPELLING] = np.asarray(table, dtype=np.float32) * np.float32(LOUD / (2 * STEEP))
    return linear("mlp.c_fc", inner, threshold) | linear("mlp.c_proj", outer)


def wire_norms(layer: int) -> dict[str, Array]:
    """Let each norm give 1 for 1: its gain is the deviation of a stream with so many signs."""
    counts = (HEARD - HERE, WORD - HERE) if layer else (SEEN + 2, HASH + 2)
    gains = [zeros(WIDTH) + np.float32(math.sqrt(count / WIDTH)) for count in counts]
    return linear("ln_1", gains[0]) | linear("ln_2", gains[1])


def linear(name: str, weight: Array, bias: Array | None = None) -> dict[str, Array]:
    """Return a part's weight, inputs by outputs as GPT-2 has it, and its bias, zero by default."""
    return {
        f"{name}.weight": weight,
        f"{name}.bias": zeros(weight.shape[-1]) if bias is None else bias,
    }


def shuffle(items: Sequence[T], *name: object) -> list[T]:
    """Return the items in a random order, which the name alone decides."""
    ranks = [hashlib.sha256(f"{name} {place}".encode()).digest() for place in range(len(items))]
    return [items[place] for place in sorted(range(len(items)), key=ranks.__getitem__)]


def zeros(*shape: int) -> Array:
    """Return float32 zeros."""
    return np.zeros(shape, dtype=np.float32)


def to_json(value: object) -> bytes:
    """Return JSON with sorted keys, in ASCII."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode("ascii")


if __name__ == "__main__":
    main()
