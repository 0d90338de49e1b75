"""Text made of tokens as they come, and cut at a stop sequence.

A token may hold half a character, and its text may depend on the one before it: SentencePiece drops the first
space of a text, and shows the bytes of a character only when all are there. So a detokeniser holds back what the
next token may change, and what may be the beginning of a stop sequence is held back as well. What is handed on is
never taken back, and together it is the text, however it was cut into tokens.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Final, Protocol

__all__ = ["Detokenizer", "Pieces", "Text", "Window"]

UNKNOWN: Final = "\N{REPLACEMENT CHARACTER}"
"""Stands for bytes that are no character, or not yet."""
SETTLED: Final = 16
"""Tokens that are decoded again with each new one; then what is settled is left behind."""
UNSETTLED: Final = 64
"""Tokens without a whole character at the end, after which no more is waited for one."""
CHARACTER: Final = 3
"""As many UNKNOWN stand at most for the beginning of one character of four bytes."""


class Detokenizer(Protocol):
    """The text of the tokens of one sequence."""

    def add(self, token: int) -> str:
        """Take a token; return what of the text is certain now."""
        ...

    def close(self) -> str:
        """Return the rest."""
        ...


class Pieces:
    """A vocabulary whose tokens have bytes of their own."""

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        self._piece = piece
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        """Take a token; return its whole characters."""
        return self._decoder.decode(self._piece(token))

    def close(self) -> str:
        """Return what stands for an unfinished character."""
        return self._decoder.decode(b"", True)


class Window:
    """A vocabulary that knows texts of whole sequences only: the last tokens are decoded again with each new one."""

    def __init__(self, decode: Callable[[Sequence[int]], str], before: Sequence[int] = ()) -> None:
        """`before` are the prompt's tokens: the text goes on from there, with the space between them."""
        self._decode = decode
        self._tokens = list(before)
        self._mark = len(self._tokens)
        """A place between tokens where the text was whole."""
        self._text = decode(self._tokens) if before else ""
        self._said = len(self._text)

    def add(self, token: int) -> str:
        """Take a token; return what it completes."""
        before = self._text
        self._tokens.append(token)
        self._text = self._decode(self._tokens)
        if self._text == before and not self._decode([token, token]):
            # Never shown: any number of them may come. (One alone may be a space that is dropped at the beginning.)
            self._tokens.pop()
            return ""
        whole = len(self._text.rstrip(UNKNOWN))
        if len(self._tokens) - self._mark > UNSETTLED:
            whole = max(whole, len(self._text) - CHARACTER)
            piece = self._say(whole)
            self._leave(len(self._tokens) - UNSETTLED // 2)
            return piece
        piece = self._say(whole)
        if whole == len(self._text):
            if len(self._tokens) > SETTLED and self._mark:
                self._leave(self._mark)
            self._mark = len(self._tokens)
        return piece

    def close(self) -> str:
        """Return the rest, whole or not."""
        return self._say(len(self._text))

    def _say(self, end: int) -> str:
        piece = self._text[self._said : end]
        self._said = max(self._said, end)
        return piece

    def _leave(self, count: int) -> None:
        """Forget the first tokens. As many characters at the end are unsaid as before."""
        unsaid = len(self._text) - self._said
        del self._tokens[:count]
        self._text = self._decode(self._tokens)
        self._said = len(self._text) - unsaid
        self._mark = 0


class Text:
    """The text of one generation, up to the first stop sequence."""

    def __init__(self, tokens: Detokenizer, stop: Sequence[str] = ()) -> None:
        self._tokens = tokens
        self._stop = tuple(filter(None, stop))
        self._reach = max(map(len, self._stop), default=1) - 1
        self._held = ""
        self._said: list[str] = []
        self.ended = False
        """Whether a stop sequence came."""

    def __str__(self) -> str:
        return "".join(self._said)

    def add(self, token: int) -> str:
        """Take a token; return what of the text is certain now."""
        return "" if self.ended else self._take(self._tokens.add(token), last=False)

    def close(self) -> str:
        """Return the rest."""
        return "" if self.ended else self._take(self._tokens.close(), last=True)

    def _take(self, piece: str, *, last: bool) -> str:
        self._held += piece
        found = [(at + len(stop), at) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            # The one that is complete first, as if the text had come character by character.
            self.ended = True
            certain = min(found)[1]
        else:
            certain = len(self._held) - (0 if last else self._doubtful())
        said, self._held = self._held[:certain], self._held[certain:]
        if said:
            self._said.append(said)
        return said

    def _doubtful(self) -> int:
        """Count the characters at the end that may begin a stop sequence."""
        for size in range(min(len(self._held), self._reach), 0, -1):
            end = self._held[-size:]
            if any(stop.startswith(end) for stop in self._stop):
                return size
        return 0
