"""Trees on disk: made once out of links to the store, then bound read-only wherever they are needed."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from forge.core.digest import Digest
from forge.core.tool import TreeContent
from forge.core.tree import File, Symlink, Tree
from forge.execution.home import host_errors
from forge.execution.store import STAMP, LocalStore


def materialize(store: LocalStore, content: TreeContent) -> Path:
    """Make a tree appear as a folder, or find it made; its files are the store's own, read-only.

    Raises MissingBlob when a file is not in the store.
    """
    target = store.home / "trees" / content.root.hash
    if target.is_dir():
        return target
    tree = Tree.decode(store.read(content.tree))
    with host_errors(target):
        temporary = Path(tempfile.mkdtemp(dir=store.home / "tmp"))
        try:
            write_tree(store, tree, temporary / "tree")
            _publish(temporary / "tree", target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def write_tree(store: LocalStore, tree: Tree, folder: Path) -> None:
    """Write a tree's entries into a new folder."""
    base = str(folder)
    os.mkdir(base, 0o755)
    folders = tree.folders()
    for name in folders:
        os.mkdir(f"{base}/{name}", 0o755)
    for name, entry in tree.entries.items():
        if isinstance(entry, File):
            store.link(entry.digest, f"{base}/{name}", executable=entry.executable)
        elif isinstance(entry, Symlink):
            os.symlink(entry.target, f"{base}/{name}")
    for name in reversed(folders):
        os.chmod(f"{base}/{name}", 0o755)
        os.utime(f"{base}/{name}", (STAMP, STAMP))
    os.chmod(base, 0o755)
    os.utime(base, (STAMP, STAMP))


def is_materialized(store: LocalStore, root: Digest) -> bool:
    """Say whether a tree's folder is there."""
    return (store.home / "trees" / root.hash).is_dir()


def _publish(made: Path, target: Path) -> None:
    try:
        os.rename(made, target)
    except OSError:
        # Another build was faster: its folder has the same content.
        with suppress(FileNotFoundError):
            if not target.is_dir():
                raise
