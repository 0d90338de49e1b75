"""Hugging Face transformers on PyTorch, on one CUDA device or the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import logging as transformers_logging

from forge_runtime.backend import Outcome, Progress, Prompt
from forge_runtime.checkpoint import Tokenizer, check_folder, speller, token_ids
from forge_runtime.config import ModelConfig, Params
from forge_runtime.device import check_accelerator, number_devices
from forge_runtime.error import RequestError
from forge_runtime.request import Sampling
from forge_runtime.row import Row, live, open_rows, outcomes

__all__ = ["TransformersBackend", "create"]

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
DEFAULT_TOP_K = 50
"""What transformers sets where nobody asked for a top_k."""


def create() -> TransformersBackend:
    """Make the backend, for `open_backend`."""
    return TransformersBackend()


class _Model(Protocol):
    """What is used of a model; its own types do not know what a mixin adds."""

    config: object
    generation_config: GenerationConfig
    dtype: torch.dtype

    def to(self, device: torch.device) -> object: ...

    def eval(self) -> object: ...

    def generate(self, **inputs: object) -> torch.Tensor: ...


class TransformersBackend:
    """One causal language model and its tokenizer."""

    def load(self, model: ModelConfig, params: Params) -> None:
        """Read weights and tokenizer from the model's folder, and from nowhere else."""
        check_folder(model, "safetensors")
        cast("Callable[[], None]", transformers_logging.disable_progress_bar)()
        transformers_logging.disable_default_handler()
        transformers_logging.enable_propagation()
        if params.num_threads:
            # OpenMP keeps this per thread: it acts because generate() runs in the same one.
            torch.set_num_threads(params.num_threads)
        self._device = _device(params)
        self._tokenizer = cast(Tokenizer, AutoTokenizer.from_pretrained(model.path, local_files_only=True))
        self._spell = speller(self._tokenizer)
        dtype = DTYPES.get(params.precision, "auto")
        options = {"dtype": dtype, "local_files_only": True, "use_safetensors": True}
        self._model = cast(_Model, AutoModelForCausalLM.from_pretrained(model.path, **options))
        self._model.to(self._device)
        self._model.eval()
        positions = getattr(self._model.config, "max_position_embeddings", None)
        self._positions = positions if isinstance(positions, int) and positions > 0 else None
        self._ends = token_ids(self._model.generation_config.eos_token_id)
        self._pad = next(iter(token_ids(getattr(self._tokenizer, "pad_token_id", None)) or self._ends), 0)

    def describe(self) -> Mapping[str, str | int]:
        """Say on what the model runs, and how."""
        return {
            "backend": "transformers",
            "device": str(self._device),
            "precision": str(self._model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "context": self._positions or 0,
        }

    def generate(self, prompts: Sequence[Prompt], progress: Progress) -> Sequence[Outcome]:
        """Continue each prompt, padded on the left to the longest that it can run with."""
        tokens = [self._tokenizer.encode(prompt.text) for prompt in prompts]
        rows = open_rows(prompts, tokens, progress, self._spell, positions=self._positions)
        # A row that stopped only because a longer neighbour ran out of positions goes on.
        while waiting := live(rows):
            for group in self._groups(waiting):
                self._extend(group)
        return outcomes(rows)

    def _groups(self, rows: Iterable[Row]) -> Iterable[list[Row]]:
        """Split rows so that neither padding nor a neighbour can change what they get.

        Processors that look back count padding as text, and the pad token often is the
        end-of-text token: it would be forbidden, or punished. (transformers 5 spares it
        in the repetition penalty alone; the releases for Python 3.10 do not.)
        """
        config = self._model.generation_config
        looks_back = (config.repetition_penalty or 1.0) != 1.0 or config.no_repeat_ngram_size or config.min_length
        groups: dict[object, list[Row]] = {}
        for row in rows:
            sampling = row.sampling
            choice: object = None if sampling.is_greedy else (sampling.temperature, sampling.top_p)
            if choice and sampling.seed is not None:
                choice = row.index  # torch draws for all rows from one generator
            groups.setdefault((choice, row.length if looks_back else 0), []).append(row)
        return groups.values()

    def _extend(self, rows: list[Row]) -> None:
        if not (rows := live(rows)):
            return
        width = max(row.length for row in rows)
        padded = [[self._pad] * (width - row.length) + row.prompt + row.generated for row in rows]
        mask = [[0] * (width - row.length) + [1] * row.length for row in rows]
        left = max(row.left for row in rows)
        try:
            with torch.inference_mode():
                self._model.generate(
                    input_ids=torch.tensor(padded, device=self._device),
                    attention_mask=torch.tensor(mask, device=self._device),
                    # Finished rows are run on until the last is finished: none may leave the positions.
                    max_new_tokens=min(left, self._positions - width) if self._positions else left,
                    pad_token_id=self._pad,
                    num_beams=1,
                    stopping_criteria=StoppingCriteriaList([_Rows(rows, self._ends)]),
                    **self._choice(rows[0].sampling),
                )
            return
        except torch.OutOfMemoryError as error:
            text = " ".join(str(error).split())[:200]
        # Only here, where the error holds the tensors no more.
        torch.cuda.empty_cache()
        for row in rows:
            row.refuse(RequestError(f"The accelerator's memory is too small: {text}", status=503, code="out_of_memory"))

    def _choice(self, sampling: Sampling) -> dict[str, bool | int | float]:
        if sampling.is_greedy:
            return {"do_sample": False}
        if sampling.seed is None:
            torch.seed()  # or a prompt after one with a seed could be foretold
        else:
            torch.manual_seed(sampling.seed)
        top_k = self._model.generation_config.top_k
        # The model's own top_k where it has one; else nothing beside what was declared.
        kept = 0 if top_k in (None, DEFAULT_TOP_K) else top_k
        return {
            "do_sample": True,
            "temperature": float(sampling.temperature),
            "top_p": float(sampling.top_p),
            "top_k": kept,
        }


class _Rows(StoppingCriteria):
    """Gives rows their tokens as they come, and ends those that are over."""

    def __init__(self, rows: Sequence[Row], ends: Sequence[int]) -> None:
        self._rows = rows
        self._ends = frozenset(ends)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: object) -> torch.BoolTensor:
        """Say of each row whether it is over."""
        for row, token in zip(self._rows, input_ids[:, -1].tolist(), strict=True):
            if not row.is_over:
                row.take(token, is_end=token in self._ends)
        live(self._rows)
        done = [row.is_over for row in self._rows]
        return torch.tensor(done, device=input_ids.device, dtype=torch.bool)  # type: ignore[return-value]


def _device(params: Params) -> torch.device:
    number_devices()
    if not check_accelerator(params, [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]):
        return torch.device("cpu")
    device = torch.device("cuda", params.device_index)
    torch.cuda.set_device(device)
    if params.gpu_memory_share:
        torch.cuda.set_per_process_memory_fraction(params.gpu_memory_share, device)
    return device
