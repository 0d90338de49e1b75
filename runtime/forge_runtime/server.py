"""Text generation by the configured backend; what a handler subclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from forge_runtime.backend import Generation, Outcome, Prompt, TextBackend
from forge_runtime.error import RequestError
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
        self.backend.generate([Prompt("a", sampling)], _Alone())

    def decode(self, body: bytes, content_type: str) -> Request:
        """Turn the bytes of a request into prompts and their sampling."""
        return parse(body, content_type, self.config.params)

    def preprocess(self, request: Request) -> Request:
        """Prepare the prompts, one for one: a template, a prefix."""
        return request

    def infer(self, request: Request) -> Sequence[Generation]:
        """Run the model for one request, at most `batch_size` prompts at a time."""
        (outcome,) = self.infer_batch([request])
        if isinstance(outcome, RequestError):
            raise outcome
        return outcome

    def infer_batch(self, requests: Sequence[Request]) -> Sequence[Sequence[Generation] | RequestError]:
        """Run the prompts of all requests, at most `batch_size` of them at a time."""
        rows = [_Row(request, index) for request in requests for index in range(len(request.prompts))]
        found: list[Outcome] = []
        for start in range(0, len(rows), self.batch_size):
            chunk = rows[start : start + self.batch_size]
            found += self.backend.generate([row.prompt() for row in chunk], _Readers(chunk))
        if len(found) != len(rows):
            raise ValueError(f"{len(rows)} prompts, but {len(found)} outcomes")
        outcomes = iter(found)
        return [_collect([next(outcomes) for _ in request.prompts]) for request in requests]

    def count(self, request: Request) -> int:
        """Count the prompts."""
        return len(request.prompts)

    def postprocess(self, request: Request, results: Sequence[Generation]) -> object:
        """Pair texts with prompts as `decode` gave them; a prompt that came twice gets a list."""
        if len(results) != len(request.prompts):
            raise ValueError(f"{len(request.prompts)} prompts, but {len(results)} results")
        answers: dict[str, list[object]] = {}
        for prompt, result in zip(request.prompts, results, strict=True):
            answers.setdefault(prompt, []).append(asdict(result) if request.details else result.text)
        return {prompt: texts if len(texts) > 1 else texts[0] for prompt, texts in answers.items()}


@dataclass(frozen=True, slots=True)
class _Row:
    """One prompt of one request."""

    request: Request
    index: int

    def prompt(self) -> Prompt:
        sampling = self.request.sampling
        if sampling.seed is not None:
            # With one seed for all, every prompt of a request would draw the same.
            sampling = replace(sampling, seed=(sampling.seed + self.index) & MAX_SEED)
        # A handler's own kind of string may not be known where the model is.
        return Prompt(str.__str__(self.request.prompts[self.index]), sampling, self.request.emit is not None)


class _Readers:
    """Those who wait for the rows of one batch."""

    def __init__(self, rows: Sequence[_Row]) -> None:
        self._rows = rows

    def cancelled(self, index: int) -> bool:
        return self._rows[index].request.cancelled()

    def emit(self, index: int, text: str) -> None:
        row = self._rows[index]
        if row.request.emit is not None:
            row.request.emit(row.index, text)


class _Alone:
    """Nobody reads along, and somebody waits to the end."""

    def cancelled(self, index: int) -> bool:
        return False

    def emit(self, index: int, text: str) -> None:
        pass


def _collect(outcomes: Sequence[Outcome]) -> Sequence[Generation] | RequestError:
    results = []
    for outcome in outcomes:
        if isinstance(outcome, RequestError):
            return outcome
        results.append(outcome)
    return results
