"""Globs over paths: `*` and `?` stay within a folder, `**` does not."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"(\*\*/|\*\*|\*|\?)")
_MEANINGS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def is_glob(text: str) -> bool:
    """Say whether `text` stands for more than itself."""
    return _SPECIAL.search(text) is not None


def matches(path: str, glob: str) -> bool:
    """Say whether `glob` means `path`."""
    regex = "".join(_MEANINGS.get(part, re.escape(part)) for part in _SPECIAL.split(glob))
    return re.fullmatch(regex, path, re.DOTALL) is not None
