"""A prompt on its way through a model: its tokens, how many more it may get, why it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from forge_runtime.backend import FinishReason, Generation, Outcome, Progress, Prompt
from forge_runtime.error import RequestError
from forge_runtime.request import Sampling
from forge_runtime.text import Detokenizer, Text

__all__ = ["Row", "live", "open_rows", "outcomes"]


@dataclass(slots=True, eq=False)
class Row:
    """One prompt of a call."""

    index: int
    """Its place in the call."""
    sampling: Sampling
    prompt: list[int]
    budget: int
    """How many tokens it may get."""
    text: Text
    progress: Progress
    streams: bool = False
    """Whether somebody reads along."""
    generated: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    refusal: RequestError | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more is generated for it."""
        return self.finish_reason is not None or self.refusal is not None

    @property
    def length(self) -> int:
        """All its tokens."""
        return len(self.prompt) + len(self.generated)

    @property
    def left(self) -> int:
        """How many tokens it may still get."""
        return self.budget - len(self.generated)

    def take(self, token: int, *, is_end: bool) -> None:
        """Take the next token, `is_end` where the model ended the text with it."""
        self.generated.append(token)
        if not is_end:
            self._emit(self.text.add(token))
        if is_end or self.text.ended:
            self.finish("stop")
        elif self.left <= 0:
            self.finish("length")

    def finish(self, reason: FinishReason) -> None:
        """End it, unless it has ended."""
        if not self.is_over:
            self._emit(self.text.close())
            self.finish_reason = reason

    def refuse(self, error: RequestError) -> None:
        """End it without a text, unless it has ended."""
        if not self.is_over:
            self.refusal = error

    def _emit(self, piece: str) -> None:
        if piece and self.streams:
            self.progress.emit(self.index, piece)


def open_rows(
    prompts: Sequence[Prompt],
    tokens: Iterable[Sequence[int]],
    progress: Progress,
    spell: Callable[[Sequence[int]], Detokenizer],
    *,
    positions: int | None = None,
) -> list[Row]:
    """Make a row of each prompt and its tokens; one that a context of `positions` cannot hold is refused there.

    `spell` makes what turns tokens into text after those of a prompt.
    """
    rows = []
    for index, (prompt, ids) in enumerate(zip(prompts, tokens, strict=True)):
        sampling = prompt.sampling
        limit = min(sampling.max_length, positions or sampling.max_length)
        room = limit - len(ids)
        budget = min(room, sampling.max_new_tokens or room)
        refusal = _refusal(prompt.text, len(ids), limit)
        text = Text(spell(() if refusal else ids), sampling.stop)
        rows.append(Row(index, sampling, list(ids), budget, text, progress, prompt.streams, refusal=refusal))
    return rows


def live(rows: Iterable[Row]) -> list[Row]:
    """Return those that go on; a row that nobody waits for ends here."""
    found = []
    for row in rows:
        if not row.is_over and row.progress.cancelled(row.index):
            row.finish("cancelled")
        if not row.is_over:
            found.append(row)
    return found


def outcomes(rows: Iterable[Row]) -> list[Outcome]:
    """Say what came of each row; all have ended."""
    return [row.refusal or _generation(row) for row in rows]


def _generation(row: Row) -> Generation:
    assert row.finish_reason is not None
    ids = tuple(row.generated)
    return Generation(str(row.text), len(row.prompt), len(ids), ids, row.finish_reason)


def _refusal(text: str, count: int, limit: int) -> RequestError | None:
    if count == 0:
        return RequestError(f"The prompt {text[:40]!a} has no tokens", param="prompts")
    if count >= limit:
        return RequestError(
            f"A prompt has {count} tokens of the {limit} that prompt and text share",
            param="prompts",
            code="context_length_exceeded",
        )
    return None
