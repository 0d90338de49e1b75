"""What a library offers to the executor: work on content that needs no sandbox, as forge itself does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from forge.core.blob import BlobStore
from forge.core.digest import Digest

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class FileContent:
    """An output that is a file."""

    digest: Digest
    executable: bool = False


@dataclass(frozen=True, slots=True)
class TreeContent:
    """An output that is a folder."""

    tree: Digest
    """Digest of the Tree message, which is a blob of the store."""
    root: Digest
    """Digest of its root Directory."""


Content = FileContent | TreeContent


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """One call of a tool."""

    params: Mapping[str, Json]
    inputs: Mapping[str, Content]
    """By the names that the action gives them, in the action's order."""
    store: BlobStore
    progress: Callable[[int, int], None] = lambda done, total: None
    """Called with bytes done and bytes in all (0 where not known), now and then."""


Tool = Callable[[ToolRequest], Mapping[str, Content]]
"""Returns each declared output by name. Raises ActionFailed or MaterialError."""
