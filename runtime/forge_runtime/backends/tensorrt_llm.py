"""TensorRT-LLM: a built engine or a checkpoint, each prompt a streaming request of its own.

Written against TensorRT-LLM 0.18 to 1.2 by its source, and not run on hardware yet.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from forge_runtime.backend import FinishReason, Outcome, Progress, Prompt
from forge_runtime.checkpoint import check_folder, read_ends, read_positions, read_precision, speller
from forge_runtime.config import ModelConfig, Params, Precision
from forge_runtime.device import show_only
from forge_runtime.error import LoadError, RequestError
from forge_runtime.row import Row, live, open_rows, outcomes

__all__ = ["TensorrtLlmBackend", "create"]

ENGINE: Final = "tensorrt"
DTYPES: Final[Mapping[Precision, str]] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "auto": "auto"}
REASONS: Final[Mapping[str, FinishReason]] = {"stop": "stop", "length": "length"}
ENVIRONMENT: Final[Mapping[str, str]] = {
    "TLLM_WORKER_USE_SINGLE_PROCESS": "1",  # the engine's end is this process's, and is seen
    "TRTLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}
SMALLEST: Final = 1e-6
"""What stands for a top_p of 0, which to the library is none."""
SEEDS: Final = 2**63


def create() -> TensorrtLlmBackend:
    """Make the backend, for `open_backend`."""
    return TensorrtLlmBackend()


class TensorrtLlmBackend:
    """One engine and its tokenizer."""

    def load(self, model: ModelConfig, params: Params) -> None:
        """Read the engine, or make one of the checkpoint."""
        check_folder(model, ENGINE, "safetensors")
        if model.format == ENGINE and params.precision != "auto":
            raise LoadError("params.precision: An engine has the precision that it was built with; leave it `auto`")
        os.environ.update(ENVIRONMENT)
        show_only(params.device_index)
        self._positions = min(params.max_length, read_positions(model.path) or params.max_length)
        # Only now: it reads the environment when it is imported.
        import tensorrt_llm  # type: ignore[import-not-found, unused-ignore]

        self._library: Any = tensorrt_llm
        try:
            self._llm = self._open(model, params)
        except Exception as error:  # the library's errors have no common base but this
            raise LoadError(f"{model.path}: {' '.join(str(error).split())[:400]}") from error
        if self._llm.tokenizer is None:
            raise LoadError(f"{model.path}: No tokenizer beside the engine")
        # It may be wrapped.
        self._tokenizer = getattr(self._llm.tokenizer, "tokenizer", self._llm.tokenizer)
        self._spell = speller(self._tokenizer)
        self._ends = read_ends(model.path, self._tokenizer)
        precision = read_precision(model.path) if params.precision == "auto" else DTYPES[params.precision]
        self._facts = {"device": f"cuda:{params.device_index}", "precision": precision}

    def describe(self) -> Mapping[str, str | int]:
        """Say on what the model runs, and how."""
        return {"backend": "tensorrt_llm", **self._facts, "context": self._positions}

    def generate(self, prompts: Sequence[Prompt], progress: Progress) -> Sequence[Outcome]:
        """Continue each prompt; the engine makes the batches."""
        tokens = [self._tokenizer.encode(prompt.text) for prompt in prompts]
        rows = open_rows(prompts, tokens, progress, self._spell, positions=self._positions)
        running: dict[Row, Any] = {}
        try:
            for row in live(rows):
                try:
                    running[row] = self._llm.generate_async(row.prompt, self._choice(row), streaming=True)
                except ValueError as error:
                    row.refuse(RequestError(f"TensorRT-LLM does not take it: {error}", param="gen"))
            while going := live(running):
                for row in [each for each in running if each.is_over]:
                    _abort(running.pop(row))
                for row in going:
                    self._take(row, next(running[row]))
        finally:
            for result in running.values():
                _abort(result)
        return outcomes(rows)

    def _open(self, model: ModelConfig, params: Params) -> Any:
        from tensorrt_llm.llmapi import BuildConfig, KvCacheConfig  # type: ignore[import-not-found, unused-ignore]

        options: dict[str, object] = {"model": str(model.path)}
        if params.gpu_memory_share:
            options["kv_cache_config"] = KvCacheConfig(free_gpu_memory_fraction=params.gpu_memory_share)
        is_split = int(self._library.__version__.partition(".")[0]) >= 1  # before, one class ran and built engines
        if model.format == ENGINE and is_split:
            from tensorrt_llm._tensorrt_engine import LLM  # type: ignore[import-not-found, unused-ignore]

            return LLM(**options)
        if model.format != ENGINE:
            options["dtype"] = DTYPES[params.precision]
            sizes = {"max_seq_len": self._positions, "max_batch_size": params.batch_size}
            options.update(sizes if is_split else {"build_config": BuildConfig(**sizes)})
        return self._library.LLM(**options)

    def _take(self, row: Row, result: Any) -> None:
        """Take what has come since."""
        output = result.outputs[0]
        for token in output.token_ids[len(row.generated) :]:
            if not row.is_over:
                row.take(token, is_end=token in self._ends)
        if result.finished and not row.is_over:
            if output.finish_reason not in REASONS:
                raise RuntimeError(f"TensorRT-LLM ended a prompt with `{output.finish_reason}`")
            row.finish(REASONS[output.finish_reason])

    def _choice(self, row: Row) -> Any:
        sampling = row.sampling
        # Without a seed the library's own is 0, and all would draw the same.
        seed = secrets.randbelow(SEEDS) if sampling.seed is None else sampling.seed
        drawn = {"temperature": sampling.temperature, "top_p": max(sampling.top_p, SMALLEST), "seed": seed}
        chosen = {"top_k": 1} if sampling.is_greedy else drawn
        return self._library.SamplingParams(max_tokens=row.budget, detokenize=False, **chosen)


def _abort(result: Any) -> None:
    if not result.finished:
        result.abort()
