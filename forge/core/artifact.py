"""Files and folders by name, before they exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """A file that a person wrote."""

    path: str
    """Relative to its root, with `/`."""
    root: Literal["workspace", "runtime", "rules"] = "workspace"
    """The workspace, or the folders of the runtime and of the rules that forge brings along."""


@dataclass(frozen=True, slots=True, order=True)
class Derived:
    """An output of an action."""

    action: str
    """The action's name in its graph."""
    output: str


@dataclass(frozen=True, slots=True)
class Placement:
    """Files of a package that were named together, and where they go."""

    sources: tuple[Source, ...]
    folder: str = ""
    """Folder below the package whose place `to` takes."""
    to: str = ""
    """Where that, or the one file, goes; empty where each file keeps its path."""
    is_file: bool = False
    """Whether one file was named: `to` is then its new path."""


Artifact = Source | Derived
