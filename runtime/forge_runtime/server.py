"""Text generation by the configured backend; what a handler subclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from forge_runtime.backend import Generation, TextBackend
from forge_runtime.lifecycle import Lifecycle
from forge_runtime.request import MAX_SEED, Request, Sampling, parse

__all__ = ["BaseServer"]


class BaseServer(Lifecycle[Request, Sequence[Generation]]):
    """Prompts in, texts out."""

    needs = TextBackend
    backend: TextBackend

    def warm_up(self) -> None:
        """Generate one token."""
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
        size = self.batch_size
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
