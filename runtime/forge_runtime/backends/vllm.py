"""vLLM: a checkpoint, its engine stepped by hand so that a prompt can stream and be given up by itself.

Written against vLLM 0.10 to 0.33 by its source, and not run on hardware yet.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from forge_runtime.backend import FinishReason, Outcome, Progress, Prompt
from forge_runtime.checkpoint import check_folder, read_positions, speller
from forge_runtime.config import ModelConfig, Params, Precision
from forge_runtime.device import show_only
from forge_runtime.error import LoadError, RequestError
from forge_runtime.row import Row, live, open_rows, outcomes

__all__ = ["VllmBackend", "create"]

DTYPES: Final[Mapping[Precision, str]] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "auto": "auto"}
REASONS: Final[Mapping[str, FinishReason]] = {"stop": "stop", "length": "length"}
ENVIRONMENT: Final[Mapping[str, str]] = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine's end is this process's, and is seen
    "VLLM_CONFIGURE_LOGGING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}
SMALLEST: Final = 1e-6
"""What stands for a top_p of 0, which the library refuses."""


def create() -> VllmBackend:
    """Make the backend, for `open_backend`."""
    return VllmBackend()


class VllmBackend:
    """One checkpoint and its engine."""

    def load(self, model: ModelConfig, params: Params) -> None:
        """Read the weights and reserve the accelerator's memory."""
        check_folder(model, "safetensors")
        os.environ.update(ENVIRONMENT)
        show_only(params.device_index)
        if params.num_threads:
            os.environ.update(VLLM_CPU_OMP_THREADS_BIND="nobind", OMP_NUM_THREADS=str(params.num_threads))
        # Only now: it reads the environment when it is imported.
        import vllm  # type: ignore[import-not-found, unused-ignore]
        from vllm.platforms import current_platform  # type: ignore[import-not-found, unused-ignore]
        from vllm.sampling_params import RequestOutputKind  # type: ignore[import-not-found, unused-ignore]

        options: dict[str, object] = {
            "dtype": DTYPES[params.precision],
            "load_format": "safetensors",
            "max_model_len": min(params.max_length, read_positions(model.path) or params.max_length),
            "max_num_seqs": params.batch_size,
            # Its default is 0: without a seed of their own, texts would be the same after each start.
            "seed": secrets.randbelow(2**31),
        }
        if params.gpu_memory_share:
            options["gpu_memory_utilization"] = params.gpu_memory_share
        try:
            self._llm: Any = vllm.LLM(str(model.path), **options)
        except Exception as error:  # the library's errors have no common base but this
            raise LoadError(f"{model.path}: {' '.join(str(error).split())[:400]}") from error
        # What a step has added, and not all from the beginning; in tokens, for the text is made here.
        self._choose: Any = partial(vllm.SamplingParams, detokenize=False, output_kind=RequestOutputKind.DELTA)
        self._engine = self._llm.llm_engine
        self._own = self._llm.get_default_sampling_params()
        self._tokenizer = self._llm.get_tokenizer()
        self._spell = speller(self._tokenizer)
        self._positions: int = self._engine.model_config.max_model_len
        kind = current_platform.device_type
        self._device = kind if kind == "cpu" else f"{kind}:{params.device_index}"
        self._names = map(str, itertools.count())

    def describe(self) -> Mapping[str, str | int]:
        """Say on what the model runs, and how."""
        return {
            "backend": "vllm",
            "device": self._device,
            "precision": str(self._engine.model_config.dtype).removeprefix("torch."),
            "context": self._positions,
        }

    def generate(self, prompts: Sequence[Prompt], progress: Progress) -> Sequence[Outcome]:
        """Continue each prompt; the engine makes the batches."""
        tokens = [self._tokenizer.encode(prompt.text) for prompt in prompts]
        rows = open_rows(prompts, tokens, progress, self._spell, positions=self._positions)
        running: dict[str, Row] = {}
        try:
            for row in live(rows):
                name = next(self._names)
                try:
                    self._engine.add_request(name, {"prompt_token_ids": row.prompt}, self._choice(row))
                except ValueError as error:
                    row.refuse(RequestError(f"vLLM does not take it: {error}", param="gen"))
                else:
                    running[name] = row
            self._run(running)
        finally:
            if running:
                self._engine.abort_request(list(running))
        return outcomes(rows)

    def _run(self, running: dict[str, Row]) -> None:
        while running:
            live(running.values())
            if over := [name for name, row in running.items() if row.is_over]:
                self._engine.abort_request(over)
                for name in over:
                    del running[name]
            elif not self._engine.has_unfinished_requests():
                raise RuntimeError("vLLM has lost a prompt")
            for output in self._engine.step() if running else ():
                if output.request_id in running:
                    self._take(running[output.request_id], output.outputs[0])
                    if output.finished:
                        del running[output.request_id]

    def _take(self, row: Row, output: Any) -> None:
        """Take what a step has added."""
        last = len(output.token_ids) - 1
        for index, token in enumerate(output.token_ids):
            if not row.is_over:
                row.take(token, is_end=output.finish_reason == "stop" and index == last)
        if output.finish_reason and not row.is_over:
            if output.finish_reason not in REASONS:
                raise RuntimeError(f"vLLM ended a prompt with `{output.finish_reason}`")
            row.finish(REASONS[output.finish_reason])

    def _choice(self, row: Row) -> Any:
        sampling, own = row.sampling, self._own
        return self._choose(
            max_tokens=row.budget,
            temperature=0.0 if sampling.is_greedy else sampling.temperature,
            top_p=max(sampling.top_p, SMALLEST),
            # The model's own, where it has them.
            top_k=own.top_k,
            min_p=own.min_p,
            repetition_penalty=own.repetition_penalty,
            seed=sampling.seed,
        )
