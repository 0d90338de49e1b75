"""`forge-out/`: links from names to content."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from forge.core.errors import UserError
from forge.core.tool import Content, FileContent
from forge.execution.home import host_errors
from forge.execution.materialize import materialize
from forge.execution.store import LocalStore

FOLDER = "forge-out"


def publish(store: LocalStore, workspace: Path, name: str, content: Content) -> tuple[Path, Path]:
    """Make `forge-out/<name>` a link to content; the link, and what it points to.

    UserError when something that forge did not make is in the way.
    """
    link = workspace / FOLDER / name.rstrip("/")
    if isinstance(content, FileContent):
        target = store.sound_path(content.digest, executable=content.executable)
    else:
        target = materialize(store, content)
    with suppress(OSError):
        if os.readlink(link) == str(target):
            return link, target
    if link.exists() and not link.is_symlink():
        raise UserError(f"`{FOLDER}/{name}` is in the way: forge did not make it", hint="Move it elsewhere")
    with host_errors(link):
        _make_parents(workspace, link.parent)
        temporary = link.with_name(f".{link.name}.{os.getpid()}")
        with suppress(FileNotFoundError):
            temporary.unlink()
        temporary.symlink_to(target)
        os.replace(temporary, link)
    return link, target


def _make_parents(workspace: Path, folder: Path) -> None:
    """Make the folders below `forge-out`; where one is a link of an earlier build, it leads into the store."""
    for parent in reversed([folder, *folder.parents]):
        if parent.is_relative_to(workspace / FOLDER) and parent.is_symlink():
            parent.unlink()
    folder.mkdir(parents=True, exist_ok=True)
