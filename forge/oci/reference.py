"""Names of images as Docker writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::[0-9]+)?)"
_NAME = re.compile(
    rf"(?P<host>{_HOST}/)?(?P<path>{_PART}(?:/{_PART})*)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?"
)

_DEFAULT_HOST: Final = "docker.io/"
"""What Docker puts before a name without a host; containerd knows images by full names only."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of an image with its tag."""

    host: str
    """With a `/` at its end, or empty."""
    path: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> Reference | None:
        """Read `[host/]path[:tag]`; None when it is something else."""
        first, slash, _ = text.partition("/")
        is_host = bool(slash) and (bool(set(first) & set(".:")) or first == "localhost" or first != first.lower())
        match = _NAME.fullmatch(text) if is_host else _NAME.fullmatch(f"x/{text}")
        if match is None:
            return None
        return cls(match["host"] if is_host else "", match["path"], match["tag"] or "latest")

    @property
    def familiar(self) -> str:
        """The short form, what `docker image ls` shows."""
        return f"{self.host}{self.path}:{self.tag}"

    @property
    def full(self) -> str:
        """The form with a host, what containerd keeps."""
        if self.host:
            return self.familiar
        folder = "" if "/" in self.path else "library/"
        return f"{_DEFAULT_HOST}{folder}{self.familiar}"
