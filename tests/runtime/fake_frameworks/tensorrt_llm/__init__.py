"""TensorRT-LLM's interface as its releases 1.0 to 1.2 have it, as far as the backend uses it.

`LLM(model=..., dtype=..., max_seq_len=..., max_batch_size=..., kv_cache_config=...)` runs a checkpoint,
`_tensorrt_engine.LLM` an engine. `.generate_async(tokens, SamplingParams(...), streaming=True)` returns a result;
`next(result)` waits until it has more, and then `.outputs[0]` has all tokens so far, the end token among them;
`.finished`, `.abort()`. Written after the source.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.runtime.fake_frameworks.byte_model import ByteModel, ByteTokenizer

from .llmapi import KvCacheConfig

__all__ = ["LLM", "BaseLLM", "SamplingParams", "environment", "opened"]

__version__ = "1.2.1"
environment = dict(os.environ)
"""As it was when this was imported."""
opened: list[BaseLLM] = []


@dataclass(kw_only=True)
class SamplingParams:
    end_id: int | None = None
    max_tokens: int = 32
    top_k: int | None = None
    top_p: float | None = None
    temperature: float | None = None
    seed: int | None = None
    stop: list[str] | None = None
    detokenize: bool = True

    @property
    def is_greedy(self) -> bool:
        return (self.temperature, self.top_p, self.top_k) == (None, None, None) or 1 == self.top_k or not self.top_p


@dataclass
class CompletionOutput:
    index: int
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None


class RequestOutput:
    """A request on its way."""

    def __init__(self, model: ByteModel, tokens: Iterator[int], params: SamplingParams, reason: str | None) -> None:
        self.outputs = [CompletionOutput(0)]
        self.finished = False
        self.aborted = False
        self._tokens = tokens
        self._limit = params.max_tokens
        self._at_once = model.config.get("tokens_per_step", 1)
        self._end = model.end
        self._reason = reason

    def abort(self) -> None:
        assert not self.finished
        self.aborted = True

    def __iter__(self) -> RequestOutput:
        return self

    def __next__(self) -> RequestOutput:
        if self.finished:
            raise StopIteration
        assert not self.aborted
        output = self.outputs[0]
        for _ in range(self._at_once):
            output.token_ids.append(next(self._tokens))
            ended = "stop" if output.token_ids[-1] == self._end else None
            full = "length" if len(output.token_ids) >= self._limit else None
            output.finish_reason = self._reason or ended or full
            self.finished = output.finish_reason is not None
            if self.finished:
                break
        return self


class BaseLLM:
    """What both classes have."""

    def __init__(self, model: str, *, kv_cache_config: KvCacheConfig | None = None, **options: Any) -> None:
        self.options = options
        self.kv_cache_config = kv_cache_config
        self.seen: list[SamplingParams] = []
        self.results: list[RequestOutput] = []
        self._model = ByteModel.read(model)
        self.tokenizer = None if self._model.config.get("bare") else _Wrapped(ByteTokenizer())
        opened.append(self)

    def generate_async(
        self, inputs: Sequence[int], sampling_params: SamplingParams, *, streaming: bool = False
    ) -> RequestOutput:
        assert streaming
        if len(inputs) + sampling_params.max_tokens > self.options.get("max_seq_len", 64):
            raise ValueError("The sum of prompt length and max_tokens should not exceed max_seq_len")
        if len(inputs) > self._model.config.get("max_num_tokens", 8192):
            raise ValueError("The sum of prompt length and query length should not exceed max_num_tokens")
        tokens = self._model.tokens(inputs, None if sampling_params.is_greedy else sampling_params.seed or 0)
        reason = "timeout" if inputs[0] == ord("!") else None
        self.seen.append(sampling_params)
        self.results.append(RequestOutput(self._model, tokens, sampling_params, reason))
        return self.results[-1]


class LLM(BaseLLM):
    """A checkpoint, run by PyTorch."""

    def __init__(self, model: str, **options: Any) -> None:
        wrong = set(options) - {"dtype", "max_seq_len", "max_batch_size", "kv_cache_config"}
        if wrong:
            raise ValueError(f"LLM got invalid argument: {wrong}")
        super().__init__(model, **options)


@dataclass
class _Wrapped:
    """Its tokenizers are objects around transformers' own."""

    tokenizer: ByteTokenizer
