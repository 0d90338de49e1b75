"""Where a model's files come from, and which of them are wanted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from forge.core.artifact import Source
from forge.core.glob import matches
from forge.core.image_name import ImageName

_PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
"""Ends of names whose files a library would unpickle: running what they say is how they are read."""
_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository of a hub that speaks Hugging Face's protocol."""

    repository: str
    """`OWNER/NAME`."""


@dataclass(frozen=True, slots=True)
class WebSource:
    """Files that are named by their addresses."""

    files: tuple[tuple[str, str], ...]
    """File name and address, sorted."""

    @property
    def addresses(self) -> dict[str, str]:
        """The addresses by file name."""
        return dict(self.files)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An image with a model's files in one of its folders."""

    name: ImageName


@dataclass(frozen=True, slots=True)
class FileSource:
    """Files of the workspace."""

    folder: str
    """What their paths in the model are relative to, below the package; empty for the package itself."""
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a model's lock is to be resolved for."""

    source: HubSource | WebSource | ImageSource
    revision: str = ""
    """Commit, branch or tag of the repository."""
    files: tuple[str, ...] = ()
    """Globs; `!` before one takes away. Without meaning for addresses."""
    declared: tuple[str, ...] = ()
    """The globs, or the name of the set of globs, as the declaration has them: identity of the lock."""
    pickles: tuple[str, ...] = ()
    """Names of the pickles that may come along."""
    folder: str = ""
    """Of an image: where its files lie."""

    @property
    def requested(self) -> tuple[str, ...]:
        """What the lock says it answers: no address, but what tells one from another."""
        if isinstance(self.source, WebSource):
            return tuple(
                f"{name}@{hashlib.sha256(address.encode()).hexdigest()[:16]}" for name, address in self.source.files
            )
        if isinstance(self.source, ImageSource):
            head = [f"oci:{self.source.name}", f"folder {self.folder}"]
        else:
            head = [f"hf:{self.source.repository}", f"revision {self.revision}"]
        files = (*self.declared, *(f"pickle {name}" for name in self.pickles))
        return tuple(sorted([*head, *files]))


def choose(paths: Iterable[str], globs: Sequence[str], pickles: Sequence[str]) -> tuple[str, ...]:
    """Pick the wanted files, sorted; ValueError in words when there are none, or one is a pickle nobody allowed."""
    there = sorted(paths)
    wanted = [glob for glob in globs if not glob.startswith("!")]
    unwanted = [glob[1:] for glob in globs if glob.startswith("!")]
    chosen = [
        path
        for path in there
        if path in pickles
        or (any(matches(path, glob) for glob in wanted) and not any(matches(path, glob) for glob in unwanted))
    ]
    absent = [name for name in pickles if name not in chosen]
    if absent:
        raise ValueError(f"`allow_pickle` names [{', '.join(absent)}], which the source has not")
    if not chosen:
        shown = ", ".join(there[:12]) + (", …" if len(there) > 12 else "")
        raise ValueError(f"[{', '.join(globs)}] matches none of its files: [{shown}]")
    refused = [path for path in chosen if is_pickle(path) and path not in pickles]
    if refused:
        names = ", ".join(refused)
        raise ValueError(f"[{names}]: a pickle runs code when it is read; `allow_pickle` lets one in by name")
    return tuple(chosen)


def is_repository(text: str) -> bool:
    """Say whether `text` is `OWNER/NAME`."""
    return _REPOSITORY.fullmatch(text) is not None


def is_revision(text: str) -> bool:
    """Say whether `text` can be the name of a commit, branch or tag."""
    return _REVISION.fullmatch(text) is not None


def is_commit(text: str) -> bool:
    """Say whether `text` is a whole commit, which does not move."""
    return _COMMIT.fullmatch(text) is not None


def is_pickle(path: str) -> bool:
    """Say whether a file's name is that of a pickle."""
    return path.lower().endswith(_PICKLES)
