"""The lifecycle of a request; what a handler subclasses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import ClassVar

from forge_runtime.backend import Backend, Generation
from forge_runtime.config import Config
from forge_runtime.request import MAX_SEED, Request, Sampling, parse

__all__ = ["HOOKS", "BaseServer"]

HOOKS = ("load", "warm_up", "decode", "preprocess", "infer", "postprocess", "encode")


class BaseServer:
    """Text generation by the configured backend, in steps that can each be overridden.

    `load` and `warm_up` run once. A request then goes through `decode`, `preprocess`,
    `infer`, `postprocess` and `encode`, each given what the one before returned. All
    run in the model's thread, one at a time, but `decode`, which runs in a thread of
    its own, so that a bad request is refused while the model is busy: it must not
    touch the model. A hook raises RequestError for what is the client's fault.
    """

    media_type: ClassVar[str] = "application/json"
    """Content type of what `encode` returns."""

    def __init__(self, config: Config, backend: Backend) -> None:
        self.config = config
        self.backend = backend

    def load(self) -> None:
        """Read the model; what is raised here ends the process."""
        self.backend.load(self.config.model, self.config.params)

    def warm_up(self) -> None:
        """Do once what makes a first request slow."""
        sampling = Sampling(max_length=self.config.params.max_length, max_new_tokens=1)
        self.backend.generate(("a",), sampling, lambda: False)

    def decode(self, body: bytes, content_type: str) -> Request:
        """Turn the bytes of a request into prompts and their sampling."""
        return parse(body, content_type, self.config.params)

    def preprocess(self, request: Request) -> Request:
        """Prepare the prompts, one for one: a template, a prefix."""
        return request

    def infer(self, request: Request) -> Sequence[Generation]:
        """Run the model, at most `batch_size` prompts at a time."""
        size = self.config.params.batch_size
        results: list[Generation] = []
        for start in range(0, len(request.prompts), size):
            if request.cancelled():
                break
            sampling = request.sampling
            if sampling.seed is not None:
                # With one seed for all, a prompt would get the same text in each batch.
                sampling = replace(sampling, seed=(sampling.seed + start) & MAX_SEED)
            chunk = request.prompts[start : start + size]
            results.extend(self.backend.generate(chunk, sampling, request.cancelled))
        return results

    def postprocess(self, request: Request, results: Sequence[Generation]) -> object:
        """Pair texts with prompts as `decode` gave them; a prompt that came twice gets a list."""
        if len(results) != len(request.prompts):
            raise ValueError(f"{len(request.prompts)} prompts, but {len(results)} results")
        answers: dict[str, list[object]] = {}
        for prompt, result in zip(request.prompts, results, strict=True):
            answers.setdefault(prompt, []).append(
                asdict(result) if request.details else result.text
            )
        return {prompt: texts if len(texts) > 1 else texts[0] for prompt, texts in answers.items()}

    def encode(self, answer: object) -> bytes:
        """Turn the answer into the bytes of the response."""
        return json.dumps(
            answer, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
