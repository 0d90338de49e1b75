"""Those who wait for prompts, for tests of backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from forge_runtime import Generation, RequestError, Sampling
from forge_runtime.backend import Outcome, Prompt, TextBackend


@dataclass
class Reader:
    """Hears what is emitted; stops waiting for a prompt when it is asked about it for the nth time."""

    leaves: Mapping[int, int] = field(default_factory=dict)
    heard: dict[int, list[str]] = field(default_factory=dict)
    asked: dict[int, int] = field(default_factory=dict)

    def cancelled(self, index: int) -> bool:
        self.asked[index] = self.asked.get(index, 0) + 1
        return index in self.leaves and self.asked[index] >= self.leaves[index]

    def emit(self, index: int, text: str) -> None:
        assert text
        self.heard.setdefault(index, []).append(text)

    def text(self, index: int) -> str:
        return "".join(self.heard.get(index, []))


def ask(*texts: str, sampling: Sampling, streams: bool = False) -> list[Prompt]:
    """Return prompts that all want the same."""
    return [Prompt(text, sampling, streams) for text in texts]


def run(backend: TextBackend, *prompts: Prompt, reader: Reader | None = None) -> Sequence[Outcome]:
    return backend.generate(prompts, reader or Reader())


def generations(outcomes: Sequence[Outcome]) -> list[Generation]:
    """Return what was generated; a refusal fails."""
    found = []
    for outcome in outcomes:
        assert isinstance(outcome, Generation), outcome
        found.append(outcome)
    return found


def refusal(outcome: Outcome) -> tuple[int, str]:
    """Return status and code of a refusal; a generation fails."""
    assert isinstance(outcome, RequestError), outcome
    return outcome.status, outcome.code
