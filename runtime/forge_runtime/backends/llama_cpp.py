"""llama.cpp: a model in GGUF, each prompt a sequence of one context."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import llama_cpp.llama_cpp as llama  # type: ignore[import-not-found, unused-ignore]

from forge_runtime.backend import Outcome, Progress, Prompt
from forge_runtime.config import ModelConfig, Params
from forge_runtime.error import LoadError
from forge_runtime.llama_library import Vocabulary, describe_model, has_accelerator, make_sampler, open_model
from forge_runtime.row import Row, live, open_rows, outcomes
from forge_runtime.text import Pieces
from forge_runtime.weights import find_file

__all__ = ["LlamaBackend", "create"]

BATCH = 512
"""Tokens of a prompt that are run at once; between two such runs it is asked whether anybody still waits."""


def create() -> LlamaBackend:
    """Make the backend, for `open_backend`."""
    return LlamaBackend()


class LlamaBackend:
    """One model, and a context with a sequence for each prompt of a batch."""

    def load(self, model: ModelConfig, params: Params) -> None:
        """Read the weights and reserve the memory of a full batch."""
        path = find_file(model, "gguf")
        self._model = open_model(path, params)
        self._device = f"gpu:{params.device_index}" if has_accelerator() else "cpu"
        self._vocabulary = Vocabulary(self._model)
        # Past its positions the library ends the process, and it rounds n_ctx up: this limit is ours to keep.
        self._positions = min(params.max_length, llama.llama_model_n_ctx_train(self._model))
        self._width = min(params.batch_size, llama.llama_max_parallel_sequences())
        self._context = llama.llama_init_from_model(self._model, self._options(params))
        if not self._context:
            raise LoadError(f"{path}: No context of {self._width} x {self._positions} tokens; is the memory enough?")
        self._batch = llama.llama_batch_init(max(BATCH, self._width), 0, 1)

    def describe(self) -> Mapping[str, str | int]:
        """Say what runs, and how."""
        return {
            "backend": "llama_cpp",
            "device": self._device,
            "precision": describe_model(self._model),
            "threads": llama.llama_n_threads(self._context),
            "context": self._positions,
        }

    def generate(self, prompts: Sequence[Prompt], progress: Progress) -> Sequence[Outcome]:
        """Continue each prompt, in a sequence of its own."""
        tokens = [self._vocabulary.encode(prompt.text) for prompt in prompts]
        vocabulary = self._vocabulary
        rows = open_rows(prompts, tokens, progress, lambda _: Pieces(vocabulary.piece), positions=self._positions)
        running = live(rows)
        for start in range(0, len(running), self._width):
            self._extend(running[start : start + self._width])
        return outcomes(rows)

    def _options(self, params: Params) -> Any:
        options = llama.llama_context_default_params()
        options.n_ctx = self._positions * self._width
        options.n_seq_max = self._width
        options.n_batch = options.n_ubatch = max(BATCH, self._width)
        options.n_threads = options.n_threads_batch = params.num_threads or len(os.sched_getaffinity(0))
        options.no_perf = True
        return options

    def _extend(self, rows: Sequence[Row]) -> None:
        llama.llama_memory_clear(llama.llama_get_memory(self._context), False)
        lanes = [(sequence, row, make_sampler(row.sampling)) for sequence, row in enumerate(rows)]
        try:
            for sequence, row, sampler in lanes:
                self._read(sequence, row, sampler)
            while live(rows):
                going = [lane for lane in lanes if not lane[1].is_over]
                self._decode([(row.generated[-1], row.length - 1, sequence) for sequence, row, _ in going], last=False)
                for index, (_, row, sampler) in enumerate(going):
                    self._take(row, sampler, index)
        finally:
            for _, _, sampler in lanes:
                llama.llama_sampler_free(sampler)

    def _read(self, sequence: int, row: Row, sampler: Any) -> None:
        """Run a prompt through the model, and take its first token."""
        chunk: list[int] = []
        for start in range(0, len(row.prompt), BATCH):
            if not live([row]):
                return
            chunk = row.prompt[start : start + BATCH]
            self._decode([(token, start + offset, sequence) for offset, token in enumerate(chunk)], last=True)
        self._take(row, sampler, len(chunk) - 1)

    def _decode(self, tokens: Sequence[tuple[int, int, int]], *, last: bool) -> None:
        """Run (token, position, sequence) through the model, for the logits of the last or of each."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for index, (token, position, sequence) in enumerate(tokens):
            batch.token[index], batch.pos[index] = token, position
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
            batch.logits[index] = not last or index == len(tokens) - 1
        status = llama.llama_decode(self._context, batch)
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status}")

    def _take(self, row: Row, sampler: Any, index: int) -> None:
        token = llama.llama_sampler_sample(sampler, self._context, index)
        row.take(token, is_end=self._vocabulary.is_end(token))
