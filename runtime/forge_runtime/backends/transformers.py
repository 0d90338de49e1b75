"""Hugging Face transformers on PyTorch, on one CUDA device or the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.utils import logging as transformers_logging

from forge_runtime.backend import Outcome, Progress, Prompt
from forge_runtime.checkpoint import Tokenizer, check_folder, speller, token_ids
from forge_runtime.config import ModelConfig, Params
from forge_runtime.device import torch_device
from forge_runtime.error import RequestError
from forge_runtime.request import Sampling
from forge_runtime.row import Row, live, open_rows, outcomes

__all__ = ["TransformersBackend", "create"]

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
DEFAULT_TOP_K = 50  # what transformers sets where nobody asked for one


def create() -> TransformersBackend:
    """Make the backend, for `open_backend`."""
    return TransformersBackend()


class _Model(Protocol):
    """What is used of a model; its own types do not know what a mixin adds."""

    config: object
    generation_config: GenerationConfig
    dtype: torch.dtype

    def to(self, device: torch.device) -> object: ...

    def generate(self, **inputs: object) -> torch.Tensor: ...


class TransformersBackend:
    """One causal language model and its tokenizer."""

    def load(self, model: ModelConfig, params: Params) -> None:
        """Read weights and tokenizer from the model's folder, and from nowhere else."""
        check_folder(model, "safetensors")
        cast("Callable[[], None]", transformers_logging.disable_progress_bar)()
        transformers_logging.disable_default_handler()
        transformers_logging.enable_propagation()
        if params.num_threads:  # OpenMP keeps this per thread: it acts because generate() runs in the same one
            torch.set_num_threads(params.num_threads)
        self._device = torch_device(params)
        self._tokenizer = cast(Tokenizer, AutoTokenizer.from_pretrained(model.path, local_files_only=True))
        self._spell = speller(self._tokenizer)
        options = {"dtype": DTYPES.get(params.precision, "auto"), "local_files_only": True, "use_safetensors": True}
        self._model = cast(_Model, AutoModelForCausalLM.from_pretrained(model.path, **options))
        self._model.to(self._device)
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
        tokens = map(self._tokenizer.encode, [prompt.text for prompt in prompts])
        rows = open_rows(prompts, tokens, progress, self._spell, positions=self._positions)
        # A row that stopped only because a longer neighbour ran out of positions goes on.
        while waiting := live(rows):
            for group in self._groups(waiting):
                if running := live(group):
                    self._extend(running)
        return outcomes(rows)

    def _groups(self, rows: Iterable[Row]) -> Iterable[list[Row]]:
        """Split rows so that neither padding nor a neighbour can change what they get."""
        # Processors that look back count padding as text, and punish or forbid the end-of-text token that it often is.
        config = self._model.generation_config
        looks_back = (config.repetition_penalty or 1.0) != 1.0 or config.no_repeat_ngram_size or config.min_length
        groups: dict[object, list[Row]] = {}
        for row in rows:
            sampling = row.sampling
            # torch draws for all rows from one generator
            drawn = row.index if sampling.seed is not None else (sampling.temperature, sampling.top_p)
            choice = None if sampling.is_greedy else drawn
            groups.setdefault((choice, row.length if looks_back else 0), []).append(row)
        return groups.values()

    def _extend(self, rows: list[Row]) -> None:
        width = max(row.length for row in rows)
        padded = [[self._pad] * (width - row.length) + row.prompt + row.generated for row in rows]
        mask = [[0] * (width - row.length) + [1] * row.length for row in rows]
        left, failure = max(row.left for row in rows), ""
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
        except torch.cuda.OutOfMemoryError as error:
            failure = " ".join(str(error).split())[:200]
        if failure:  # only here, where the error holds the tensors no more
            torch.cuda.empty_cache()
            for row in rows:
                row.refuse(RequestError(f"The GPU's memory is full: {failure}", status=503, code="out_of_memory"))

    def _choice(self, sampling: Sampling) -> dict[str, bool | int | float]:
        if sampling.is_greedy:
            return {"do_sample": False}
        if sampling.seed is None:
            torch.seed()  # or what follows a prompt with a seed could be foretold
        else:
            torch.manual_seed(sampling.seed)
        choice = {"do_sample": True, "temperature": float(sampling.temperature), "top_p": float(sampling.top_p)}
        top_k = self._model.generation_config.top_k
        # The model's own where it has one; else nothing beside what was declared.
        return {**choice, "top_k": 0 if top_k in (None, DEFAULT_TOP_K) else top_k}


class _Rows(StoppingCriteria):
    """Gives rows their tokens as they come, and ends those that are over."""

    def __init__(self, rows: Sequence[Row], ends: Sequence[int]) -> None:
        self._rows = rows
        self._ends = frozenset(ends)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: object) -> torch.BoolTensor:
        for row, token in zip(self._rows, input_ids[:, -1].tolist(), strict=True):
            if not row.is_over:
                row.take(token, is_end=token in self._ends)
        live(self._rows)
        return torch.tensor([row.is_over for row in self._rows], device=input_ids.device, dtype=torch.bool)  # type: ignore[return-value]
