"""What the fake frameworks run: a tokenizer of bytes, and a model that has been told what to say."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

END = 256
"""Ends a text, and is not shown."""
ENDLESS = "and so on, "


class ByteTokenizer:
    """A token for each byte, and one that ends a text."""

    eos_token_id = END

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return bytes(token for token in token_ids if token != END).decode(errors="replace")


@dataclass(frozen=True)
class ByteModel:
    """Says of a prompt what `answers.json` has for it, or goes on for ever."""

    config: Mapping[str, Any]
    answers: Mapping[str, str]

    @classmethod
    def read(cls, folder: str) -> ByteModel:
        path = Path(folder)
        config = json.loads((path / "config.json").read_text())
        return cls(config, json.loads((path / "answers.json").read_text()))

    def tokens(self, prompt: Sequence[int], seed: int | None) -> Iterator[int]:
        """Continue a prompt: greedily, or as a seed draws."""
        if seed is not None:
            draw = random.Random(seed)
            while True:
                yield draw.choice(b"abcdefgh ")
        answer = self.answers.get(bytes(prompt).decode())
        if answer is None:
            yield from itertools.cycle(ENDLESS.encode())
        else:
            yield from [*answer.encode(), self.end]

    @property
    def end(self) -> int:
        """The token that ends a text; a model may have one that its tokenizer would show."""
        return int(self.config.get("end", END))
