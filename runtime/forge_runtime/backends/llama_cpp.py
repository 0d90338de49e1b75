"""llama.cpp by its own C interface, which llama-cpp-python binds.

Not by `llama_cpp.Llama`: it generates past `max_tokens` to complete a character, knows one sequence at a time,
and lets a context grow past the model's positions, where the library ends the process.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import llama_cpp.llama_cpp as llama  # type: ignore[import-not-found, unused-ignore]

from forge_runtime import log
from forge_runtime.backend import FinishReason, Generation
from forge_runtime.config import ModelConfig, Params
from forge_runtime.error import LoadError, RequestError
from forge_runtime.gguf import read_header
from forge_runtime.request import Sampling
from forge_runtime.weights import find_file

__all__ = ["LlamaBackend", "create"]

logger = logging.getLogger(__name__)

BATCH = 512
"""Tokens of a prompt that are run at once; between two such runs it is asked whether anybody still waits."""
SEEDS = 2**32 - 1
"""The library takes 32 bits; the last of them means a random seed."""
WARNING, ERROR = 3, 4


def create() -> LlamaBackend:
    """Make the backend, for `open_backend`."""
    return LlamaBackend()


@dataclass(slots=True)
class _Row:
    """One prompt on its way through the model."""

    prompt: list[int]
    budget: int
    """How many tokens it may still get."""
    sampler: Any
    generated: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None


class LlamaBackend:
    """One model in GGUF, and a context with a sequence for each prompt of a batch."""

    def load(self, model: ModelConfig, params: Params) -> None:
        """Read the weights and reserve the memory of a full batch."""
        path = find_file(model, "gguf")
        header = read_header(path)
        llama.llama_log_set(_forward_log, ctypes.c_void_p(0))
        llama.llama_backend_init()
        self._model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
        if not self._model:
            raise LoadError(f"{path}: The library cannot load it; the log says why")
        if llama.llama_model_has_encoder(self._model) or not llama.llama_model_has_decoder(self._model):
            raise LoadError(f"{path}: Architecture `{header.architecture}` continues no text")
        self._vocab = llama.llama_model_get_vocab(self._model)
        # Past its positions the library ends the process, and it rounds n_ctx up: this limit is ours to keep.
        self._positions = min(params.max_length, llama.llama_model_n_ctx_train(self._model))
        self._threads = params.num_threads or len(os.sched_getaffinity(0))
        self._width = min(params.batch_size, llama.llama_max_parallel_sequences())
        self._context = llama.llama_init_from_model(self._model, self._options())
        if not self._context:
            raise LoadError(f"{path}: No context of {self._width} x {self._positions} tokens; is the memory enough?")
        self._batch = llama.llama_batch_init(max(BATCH, self._width), 0, 1)
        self._precision = _precision(self._model)

    def describe(self) -> Mapping[str, str | int]:
        """Say what runs, and how."""
        return {
            "backend": "llama_cpp",
            "device": "cpu" if not llama.llama_supports_gpu_offload() else "gpu",
            "precision": self._precision,
            "threads": llama.llama_n_threads(self._context),
            "context": self._positions,
        }

    def generate(
        self, prompts: Sequence[str], sampling: Sampling, cancelled: Callable[[], bool]
    ) -> Sequence[Generation]:
        """Continue each prompt, in a sequence of its own."""
        tokens = [self._tokens(prompt, sampling) for prompt in prompts]
        limit = min(sampling.max_length, self._positions)
        rows: list[_Row] = []
        try:
            for index, ids in enumerate(tokens):
                room = limit - len(ids)
                rows.append(_Row(ids, min(room, sampling.max_new_tokens or room), _sampler(sampling, index)))
            for start in range(0, len(rows), self._width):
                self._extend(rows[start : start + self._width], cancelled)
        finally:
            for row in rows:
                llama.llama_sampler_free(row.sampler)
        return [self._generation(row) for row in rows]

    def _options(self) -> Any:
        options = llama.llama_context_default_params()
        options.n_ctx = self._positions * self._width
        options.n_seq_max = self._width
        options.n_batch = options.n_ubatch = max(BATCH, self._width)
        options.n_threads = options.n_threads_batch = self._threads
        options.no_perf = True
        return options

    def _tokens(self, prompt: str, sampling: Sampling) -> list[int]:
        text = prompt.encode()
        size = len(text) + 8  # no token is shorter than a byte; what the model wants around the text
        buffer = (llama.llama_token * size)()
        # As transformers' tokenizers do: what the model adds itself, and special tokens by their names.
        count = llama.llama_tokenize(self._vocab, text, len(text), buffer, size, True, True)
        if count <= 0:
            raise RequestError(f"The prompt {prompt[:40]!a} has no tokens", param="prompts")
        limit = min(sampling.max_length, self._positions)
        if count >= limit:
            raise RequestError(
                f"A prompt has {count} tokens of the {limit} that prompt and text share",
                param="prompts",
                code="context_length_exceeded",
            )
        return list(buffer[:count])

    def _extend(self, rows: Sequence[_Row], cancelled: Callable[[], bool]) -> None:
        llama.llama_memory_clear(llama.llama_get_memory(self._context), False)
        for sequence, row in enumerate(rows):
            for start in range(0, len(row.prompt), BATCH):
                if cancelled():
                    return _cancel(rows)
                chunk = row.prompt[start : start + BATCH]
                self._decode([(token, start + offset, sequence) for offset, token in enumerate(chunk)], last=True)
            self._take(row, len(chunk) - 1)
        while live := [(sequence, row) for sequence, row in enumerate(rows) if row.finish_reason is None]:
            if cancelled():
                return _cancel(rows)
            place = [(row.generated[-1], len(row.prompt) + len(row.generated) - 1, each) for each, row in live]
            self._decode(place, last=False)
            for index, (_, row) in enumerate(live):
                self._take(row, index)

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

    def _take(self, row: _Row, index: int) -> None:
        token = llama.llama_sampler_sample(row.sampler, self._context, index)
        row.generated.append(token)
        row.budget -= 1
        if llama.llama_vocab_is_eog(self._vocab, token):
            row.finish_reason = "stop"
        elif row.budget <= 0:
            row.finish_reason = "length"

    def _generation(self, row: _Row) -> Generation:
        ids = tuple(row.generated)
        return Generation(self._text(ids), len(row.prompt), len(ids), ids, row.finish_reason or "length")

    def _text(self, ids: Sequence[int]) -> str:
        tokens = (llama.llama_token * len(ids))(*ids)
        size = 16 * len(ids) + 16
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = llama.llama_detokenize(self._vocab, tokens, len(ids), buffer, size, True, False)
            if count >= 0:
                return buffer.raw[:count].decode(errors="replace")
            size = -count


def _cancel(rows: Sequence[_Row]) -> None:
    for row in rows:
        row.finish_reason = row.finish_reason or "cancelled"


def _sampler(sampling: Sampling, index: int) -> Any:
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    if sampling.is_greedy:
        stages = [llama.llama_sampler_init_greedy()]
    else:
        # No prompt draws what its neighbour draws, and none what it draws depend on the size of a batch.
        seed = llama.LLAMA_DEFAULT_SEED if sampling.seed is None else (sampling.seed + index) % SEEDS
        stages = [
            llama.llama_sampler_init_temp(sampling.temperature),
            llama.llama_sampler_init_top_p(sampling.top_p, 1),
            llama.llama_sampler_init_dist(seed),
        ]
    for stage in stages:
        llama.llama_sampler_chain_add(chain, stage)
    return chain


def _precision(model: Any) -> str:
    buffer = ctypes.create_string_buffer(128)
    llama.llama_model_desc(model, buffer, len(buffer))
    # "gpt2 ?B F16", "llama 7B Q4_K - Medium"
    return buffer.value.decode(errors="replace").split(" ", 2)[-1]


@llama.llama_log_callback  # type: ignore[untyped-decorator, unused-ignore]
def _forward_log(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    if level in (WARNING, ERROR):
        severity = logging.ERROR if level == ERROR else logging.WARNING
        log.event(logger, severity, text.decode(errors="replace").strip())
