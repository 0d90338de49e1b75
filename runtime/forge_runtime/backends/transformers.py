"""Hugging Face transformers on PyTorch, on the first CUDA device or the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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

from forge_runtime.backend import FinishReason, Generation
from forge_runtime.config import ModelConfig, Params
from forge_runtime.error import LoadError, RequestError
from forge_runtime.request import Sampling

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


class _Tokenizer(Protocol):
    """What is used of a tokenizer."""

    pad_token_id: int | None

    def __call__(self, text: list[str]) -> Mapping[str, list[list[int]]]: ...

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str: ...


@dataclass(slots=True)
class _Row:
    """One prompt on its way through the model."""

    prompt: list[int]
    budget: int
    """How many tokens it may still get."""
    generated: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.generated)


class TransformersBackend:
    """One causal language model and its tokenizer."""

    def load(self, model: ModelConfig, params: Params) -> None:
        """Read weights and tokenizer from the model's folder, and from nowhere else."""
        if not model.path.is_dir():
            raise LoadError(f"{model.path}: No such folder of weights")
        if model.format != "safetensors":
            raise LoadError(
                f"{model.path}: Expected weights as `safetensors`, got `{model.format}`"
            )
        cast("Callable[[], None]", transformers_logging.disable_progress_bar)()
        transformers_logging.disable_default_handler()
        transformers_logging.enable_propagation()
        if params.num_threads:
            # OpenMP keeps this per thread: it acts because generate() runs in the same one.
            torch.set_num_threads(params.num_threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = cast(
            _Tokenizer, AutoTokenizer.from_pretrained(model.path, local_files_only=True)
        )
        self._model = cast(
            _Model,
            AutoModelForCausalLM.from_pretrained(
                model.path,
                dtype=DTYPES.get(params.precision, "auto"),
                local_files_only=True,
                use_safetensors=True,
            ),
        )
        self._model.to(self._device)
        self._model.eval()
        positions = getattr(self._model.config, "max_position_embeddings", None)
        self._positions = positions if isinstance(positions, int) and positions > 0 else None
        self._ends = _token_ids(self._model.generation_config.eos_token_id)
        self._pad = next(iter(_token_ids(self._tokenizer.pad_token_id) or self._ends), 0)

    def describe(self) -> Mapping[str, str | int]:
        """Say on what the model runs, and how."""
        return {
            "backend": "transformers",
            "device": str(self._device),
            "precision": str(self._model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "context": self._positions or 0,
        }

    def generate(
        self, prompts: Sequence[str], sampling: Sampling, cancelled: Callable[[], bool]
    ) -> Sequence[Generation]:
        """Continue each prompt, padded on the left to the longest."""
        rows = self._rows(prompts, sampling)
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        waiting = rows
        while waiting:
            for group in self._groups(waiting):
                self._extend(group, sampling, cancelled)
            # A row that stopped only because a longer neighbour ran out of positions goes on.
            waiting = [row for row in waiting if row.finish_reason is None]
        return [self._generation(row) for row in rows]

    def _rows(self, prompts: Sequence[str], sampling: Sampling) -> list[_Row]:
        limit = min(sampling.max_length, self._positions or sampling.max_length)
        rows = []
        for prompt, ids in zip(prompts, self._tokenizer(list(prompts))["input_ids"], strict=True):
            if not ids:
                raise RequestError(f"The prompt {prompt[:40]!a} has no tokens", param="prompts")
            if len(ids) >= limit:
                raise RequestError(
                    f"A prompt has {len(ids)} tokens of the {limit} that prompt and text share",
                    param="prompts",
                    code="context_length_exceeded",
                )
            room = limit - len(ids)
            rows.append(_Row(list(ids), min(room, sampling.max_new_tokens or room)))
        return rows

    def _groups(self, rows: list[_Row]) -> Iterable[list[_Row]]:
        """Split rows so that padding cannot change what they get.

        Processors that look back count padding as text, and the pad token often is the
        end-of-text token: it would be forbidden, or punished. (transformers 5 spares it
        in the repetition penalty alone; the releases for Python 3.10 do not.)
        """
        config = self._model.generation_config
        looks_back = (
            (config.repetition_penalty or 1.0) != 1.0
            or config.no_repeat_ngram_size
            or config.min_length
        )
        if not looks_back:
            return [rows]
        groups: dict[int, list[_Row]] = {}
        for row in rows:
            groups.setdefault(row.length, []).append(row)
        return groups.values()

    def _extend(self, rows: list[_Row], sampling: Sampling, cancelled: Callable[[], bool]) -> None:
        width = max(row.length for row in rows)
        # Finished rows are run on until the last is finished: none may leave the positions.
        room = self._positions - width if self._positions else max(row.budget for row in rows)
        budgets = [min(row.budget, room) for row in rows]
        padded = [[self._pad] * (width - row.length) + row.prompt + row.generated for row in rows]
        mask = [[0] * (width - row.length) + [1] * row.length for row in rows]
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=torch.tensor(padded, device=self._device),
                attention_mask=torch.tensor(mask, device=self._device),
                max_new_tokens=max(budgets),
                pad_token_id=self._pad,
                num_beams=1,
                stopping_criteria=StoppingCriteriaList([_Stop(width, budgets, cancelled)]),
                **self._choice(sampling),
            )
        stopped = cancelled()
        for row, budget, ids in zip(rows, budgets, output[:, width:].tolist(), strict=True):
            self._take(row, ids[:budget], stopped)

    def _choice(self, sampling: Sampling) -> dict[str, bool | int | float]:
        if sampling.is_greedy:
            return {"do_sample": False}
        top_k = self._model.generation_config.top_k
        return {
            "do_sample": True,
            "temperature": float(sampling.temperature),
            "top_p": float(sampling.top_p),
            # The model's own where it has one; else nothing beside what was declared.
            "top_k": 0 if top_k in (None, DEFAULT_TOP_K) else top_k,
        }

    def _take(self, row: _Row, ids: list[int], stopped: bool) -> None:
        end = next((index for index, token in enumerate(ids) if token in self._ends), None)
        new = ids if end is None else ids[: end + 1]
        row.generated += new
        row.budget -= len(new)
        if end is not None:
            row.finish_reason = "stop"
        elif row.budget <= 0:
            row.finish_reason = "length"
        elif stopped:
            row.finish_reason = "cancelled"

    def _generation(self, row: _Row) -> Generation:
        return Generation(
            text=self._tokenizer.decode(row.generated, skip_special_tokens=True),
            prompt_tokens=len(row.prompt),
            generated_tokens=len(row.generated),
            token_ids=tuple(row.generated),
            finish_reason=row.finish_reason or "length",
        )


class _Stop(StoppingCriteria):
    """Ends a row at its budget, and all rows when nobody waits."""

    def __init__(self, width: int, budgets: list[int], cancelled: Callable[[], bool]) -> None:
        self._width = width
        self._budgets = budgets
        self._cancelled = cancelled

    def __call__(
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: object
    ) -> torch.BoolTensor:
        """Say of each row whether it is finished."""
        count = input_ids.shape[1] - self._width
        done = [self._cancelled() or count >= budget for budget in self._budgets]
        return torch.tensor(done, device=input_ids.device, dtype=torch.bool)  # type: ignore[return-value]


def _token_ids(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)
