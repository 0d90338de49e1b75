"""vLLM's offline interface as its releases 0.10 to 0.33 have it, as far as the backend uses it.

`LLM(model, ...)`, `.llm_engine`, `.get_tokenizer()`, `.get_default_sampling_params()`; of the engine `.model_config`,
`.add_request(request_id, prompt, params)`, `.step()`, `.abort_request([request_id])`, `.has_unfinished_requests()`.
What it checks and what a step returns is written after the source: a RequestOutput for each request that has got
tokens, with all of them or, under DELTA, with the new ones; the end token among them; nothing of what was aborted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from tests.runtime.fake_frameworks.byte_model import ByteModel, ByteTokenizer

from .sampling_params import RequestOutputKind, SamplingParams

__all__ = ["LLM", "SamplingParams", "environment", "opened"]

environment = dict(os.environ)
"""As it was when this was imported."""
opened: list[LLM] = []


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: Sequence[int]
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt_token_ids: Sequence[int]
    outputs: list[CompletionOutput]
    finished: bool


@dataclass
class _Request:
    prompt: Sequence[int]
    params: SamplingParams
    coming: Iterator[int]
    generated: list[int] = field(default_factory=list)


class LLMEngine:
    def __init__(self, model: ByteModel, *, dtype: str, max_model_len: int, max_num_seqs: int, seed: int) -> None:
        self.model_config = SimpleNamespace(dtype=f"torch.{dtype}", max_model_len=max_model_len)
        self.aborted: list[str] = []
        self.seen: list[SamplingParams] = []
        self._model = model
        self._width = max_num_seqs
        self._seed = seed
        self._requests: dict[str, _Request] = {}

    def add_request(self, request_id: str, prompt: Mapping[str, Sequence[int]], params: SamplingParams) -> str:
        assert isinstance(request_id, str) and request_id not in self._requests
        ids = prompt["prompt_token_ids"]
        if len(ids) >= self.model_config.max_model_len:
            raise ValueError("The decoder prompt is longer than the maximum model length")
        seed = (self._seed if params.seed is None else params.seed) if params.temperature else None
        self._requests[request_id] = _Request(ids, params, self._model.tokens(ids, seed))
        self.seen.append(params)
        return f"{request_id}-0a1b2c3d"  # the engine's own name of it, which nothing else takes

    def has_unfinished_requests(self) -> bool:
        return bool(self._requests)

    def abort_request(self, request_ids: list[str]) -> None:
        assert isinstance(request_ids, list)
        for request_id in request_ids:
            if self._requests.pop(request_id, None) is not None:
                self.aborted.append(request_id)

    def step(self) -> list[RequestOutput]:
        outputs = [self._step(name, self._requests[name]) for name in list(self._requests)[: self._width]]
        return [output for output in outputs if output is not None]

    def _step(self, name: str, request: _Request) -> RequestOutput | None:
        if name == self._model.config.get("dies_at"):
            raise RuntimeError("EngineCore encountered an issue")
        if not request.generated and request.prompt[0] == ord("!"):
            del self._requests[name]
            return RequestOutput(name, request.prompt, [CompletionOutput(0, "", [], "error")], True)
        new: list[int] = []
        reason = None
        for _ in range(self._model.config.get("tokens_per_step", 1)):
            new.append(next(request.coming))
            count = len(request.generated) + len(new)
            full = count >= request.params.max_tokens or count + len(request.prompt) >= self.model_config.max_model_len
            reason = "stop" if new[-1] == self._model.end else "length" if full else None
            if reason:
                del self._requests[name]
                break
        request.generated += new
        shown = new if request.params.output_kind is RequestOutputKind.DELTA else list(request.generated)
        return RequestOutput(name, request.prompt, [CompletionOutput(0, "", shown, reason)], reason is not None)


class LLM:
    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        load_format: str = "auto",
        max_model_len: int,
        max_num_seqs: int,
        seed: int = 0,
        gpu_memory_utilization: float = 0.92,
    ) -> None:
        loaded = ByteModel.read(model)
        positions = loaded.config.get("max_position_embeddings", 2048)
        if max_model_len > positions:
            raise ValueError(f"User-specified max_model_len ({max_model_len}) is greater than\n{positions}")
        assert load_format == "safetensors"
        self.gpu_memory_utilization = gpu_memory_utilization
        shown = "bfloat16" if dtype == "auto" else dtype
        self.llm_engine = LLMEngine(
            loaded, dtype=shown, max_model_len=max_model_len, max_num_seqs=max_num_seqs, seed=seed
        )
        self.options: dict[str, Any] = {"dtype": dtype, "max_num_seqs": max_num_seqs, "seed": seed}
        opened.append(self)

    def get_tokenizer(self) -> ByteTokenizer:
        return ByteTokenizer()

    def get_default_sampling_params(self) -> SamplingParams:
        return SamplingParams(top_k=20, repetition_penalty=1.05)
