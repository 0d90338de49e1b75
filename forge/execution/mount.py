"""Folders of this machine in a sandbox or a container that somebody works in: no action has any."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from forge.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Mount:
    """One file or folder, and where it is seen."""

    source: str
    """Absolute path here; for a container also the name of a volume."""
    target: str
    """Absolute path there."""
    writable: bool = True


def root_words(root: Path, mounts: Sequence[Mount]) -> tuple[list[str], list[str]]:
    """Write bubblewrap's words for a root to read only, and those for what is mounted in it, which come last.

    A root without a place for a mount is taken apart as far as that takes: a folder on its way is made anew, and has
    what the real one has.
    """
    if not mounts:
        return ["--ro-bind", str(root), "/"], []
    opened = {folder for mount in mounts for folder in _opened(root, mount.target)}
    last = []
    for mount in sorted(mounts, key=lambda each: each.target):
        last += ["--bind" if mount.writable else "--ro-bind", mount.source, mount.target]
    if not opened:
        return ["--ro-bind", str(root), "/"], last
    return _words(root, "", opened), [*last, "--remount-ro", "/"]


def _opened(root: Path, target: str) -> set[str]:
    """Name the folders, as paths below the root, that must get an entry or have one below them that must."""
    names = target.strip("/").split("/")
    for count in range(len(names)):
        path = root.joinpath(*names[: count + 1])
        if path.is_symlink():
            hint = f"`/{'/'.join(names[: count + 1])}` is a link to `{os.readlink(path)}`: name the place itself"
            raise UsageError(f"Nothing can be mounted at `{target}`", hint=hint)
        if not path.exists():
            return {"/".join(names[:end]) for end in range(count + 1)}
    return set()


def _words(root: Path, folder: str, opened: Iterable[str]) -> list[str]:
    words = []
    for name in sorted(os.listdir(root / folder)):
        path = f"{folder}/{name}".lstrip("/")
        here = root / path
        if here.is_symlink():
            words += ["--symlink", os.readlink(here), f"/{path}"]
        elif path in opened:
            words += ["--dir", f"/{path}", *_words(root, path, opened)]
        else:
            words += ["--ro-bind", str(here), f"/{path}"]
    return words
