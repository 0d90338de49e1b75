"""Measures how faithful a GGUF file is to its checkpoint; runs in a sandbox."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rules.actions import divergence, fault, gguf_header, language, safetensors_header
from rules.actions.divergence import Logits
from rules.actions.fault import BadFile


class Converted:
    """The GGUF file in llama.cpp, as a server loads it."""

    def __init__(self, file: Path, positions: int) -> None:
        import llama_cpp

        gguf_header.read_header(file)
        try:
            self._llama: Any = llama_cpp.Llama(
                str(file), n_ctx=positions, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False
            )
        except ValueError as error:
            raise BadFile(f"llama.cpp does not load `{file.name}`: {error}") from error
        self._seen: list[int] = []

    def logits(self, tokens: Sequence[int]) -> Logits:
        """Give the logits behind each of the tokens; what it has just read it does not read again."""
        wanted = list(tokens)
        if len(wanted) <= len(self._seen) or wanted[: len(self._seen)] != self._seen:
            self._llama.reset()
            self._seen = []
        self._llama.eval(wanted[len(self._seen) :])
        self._seen = wanted
        return np.array(self._llama.scores[: len(wanted)], dtype=np.float32)

    def tokenize(self, text: str) -> Sequence[int]:
        """Turn a text into tokens."""
        return [int(each) for each in self._llama.tokenize(text.encode(), add_bos=False, special=True)]


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--original", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--converted", type=Path, required=True, help="folder with model.gguf")
    parser.add_argument("--precision", required=True)
    parser.add_argument("--prompts", type=Path, required=True, help="JSON list of texts")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    safetensors_header.read_folder(args.original)
    prompts = language.read_prompts(args.prompts)
    original = language.Original(args.original)
    longest = max(len(original.tokenize(prompt)) for prompt in prompts) + language.TOKENS
    converted = Converted(args.converted / "model.gguf", min(longest, original.positions))
    measured = language.measure(original, converted, prompts, converted.tokenize)
    sizes = divergence.sizes(args.original, args.converted, "*.safetensors", "*.gguf")
    tools = divergence.tools("gguf", "llama_cpp_python", "numpy", "torch", "transformers")
    measured |= {"format": "gguf", "precision": args.precision, "size": sizes, "tools": tools}
    divergence.write(args.out, measured)


if __name__ == "__main__":
    fault.run(main)
