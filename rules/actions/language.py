"""Compares two language models over prompts: the same tokens in, and what each would say next."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rules.actions import divergence
from rules.actions.checkpoint import read_json
from rules.actions.divergence import Divergence, Logits
from rules.actions.fault import BadFile

TOKENS = 32
"""Generated a prompt."""
MAX_PROMPTS = 4096


class LanguageModel(Protocol):
    """What is compared."""

    def logits(self, tokens: Sequence[int]) -> Logits:
        """Give the logits behind each of the tokens."""
        ...


class Original:
    """The checkpoint in transformers, in float32."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        self._torch = torch
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self._model = model.eval()
        self.positions = int(read_json(folder / "config.json").get("n_positions", 1024))

    def tokenize(self, text: str) -> list[int]:
        """Turn a text into tokens."""
        return [int(each) for each in self._tokenizer.encode(text)]

    def logits(self, tokens: Sequence[int]) -> Logits:
        """Give the logits behind each of the tokens."""
        with self._torch.inference_mode():
            found = self._model(self._torch.tensor([list(tokens)])).logits[0]
        return np.asarray(found.numpy(), dtype=np.float32)


def read_prompts(path: Path) -> list[str]:
    """Read a JSON list of texts; BadFile when it is none."""
    try:
        prompts = json.loads(path.read_bytes())
    except ValueError as error:
        raise BadFile(f"The prompts are not JSON: {error}") from error
    if not isinstance(prompts, list) or not 0 < len(prompts) <= MAX_PROMPTS:
        raise BadFile(f"The prompts must be a JSON list of 1 to {MAX_PROMPTS} texts")
    if not all(isinstance(prompt, str) and prompt for prompt in prompts):
        raise BadFile("The prompts must be texts, none of them empty")
    return prompts


def measure(
    original: Original,
    converted: LanguageModel,
    prompts: Sequence[str],
    tokenize: Callable[[str], Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Compare over all prompts; `tokenize` is the converted model's own, where it has one."""
    rows: list[dict[str, Any]] = []
    parts: list[Divergence] = []
    for text in prompts:
        tokens = original.tokenize(text)
        if not 0 < len(tokens) <= original.positions - TOKENS:
            raise BadFile(f"The prompt `{text[:40]}` has {len(tokens)} tokens, 1 to {original.positions - TOKENS} fit")
        said = greedy(original, tokens)
        everything = [*tokens, *said[:-1]]
        first, second = original.logits(everything), converted.logits(everything)
        parts.append(divergence.compare(first, second))
        forced = [int(each) for each in second[len(tokens) - 1 :].argmax(axis=-1)]
        rows.append(
            {
                "prompt": text,
                "tokens": len(tokens),
                **parts[-1].figures(),
                "teacher_forced": divergence.rounded(divergence.agreement(said, forced)),
                "free_running": divergence.rounded(divergence.agreement(said, greedy(converted, tokens))),
                "same_tokens": tokenize is None or list(tokenize(text)) == tokens,
            }
        )
    return {
        "kind": "language",
        "logits": divergence.together(parts).figures(),
        "agreement": {key: _mean(rows, key) for key in ("teacher_forced", "free_running", "same_tokens")},
        "generated": TOKENS,
        "prompts": rows,
    }


def greedy(model: LanguageModel, tokens: Sequence[int]) -> list[int]:
    """Let a model go on by itself, the likeliest token each time."""
    said: list[int] = []
    for _ in range(TOKENS):
        said.append(int(model.logits([*tokens, *said])[-1].argmax()))
    return said


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    return divergence.rounded(sum(float(row[key]) for row in rows) / len(rows))
