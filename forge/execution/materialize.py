"""Trees on disk: made once out of links to the store, then bound read-only wherever they are needed."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from forge.core.tool import TreeContent
from forge.core.tree import File, Symlink, Tree
from forge.execution.home import host_errors
from forge.execution.store import STAMP, LocalStore


def materialize(store: LocalStore, content: TreeContent) -> Path:
    """Make a tree appear as a folder, or find it made; its files are the store's own, read-only.

    Raises MissingBlob when a file is not in the store.
    """
    target = store.home / "trees" / content.root.hash
    found = target.is_dir()
    if found and content.root.hash in store.intact:
        return target
    tree = Tree.decode(store.read(content.tree))
    if not found or not _is_intact(tree, str(target)):
        with host_errors(target):
            temporary = store.scratch.subfolder()
            try:
                if found:
                    with suppress(FileNotFoundError):
                        os.rename(target, temporary / "damaged")
                write_tree(store, tree, temporary / "tree")
                _publish(temporary / "tree", target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    store.intact.add(content.root.hash)
    return target


def evidence(store: LocalStore, content: TreeContent) -> tuple[dict[str, int], dict[str, int]]:
    """Tell what shows with `stat` alone that a tree on disk is as it was.

    Its files with their sizes, whose times are the store's, and its folders with their times in nanoseconds.
    """
    tree = Tree.decode(store.read(content.tree))
    base = str(store.home / "trees" / content.root.hash)
    files = {f"{base}/{name}": file.digest.size for name, file in tree.files()}
    return files, {base: STAMP * 10**9} | {f"{base}/{name}": STAMP * 10**9 for name in tree.folders()}


def write_tree(store: LocalStore, tree: Tree, folder: Path) -> None:
    """Write a tree's entries into a new folder."""
    base = str(folder)
    os.mkdir(base, 0o755)
    store.expect({file.digest for _, file in tree.files()})
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


def _is_intact(tree: Tree, base: str) -> bool:
    """Look at each file and folder; whatever was changed, added or removed has changed a time."""
    try:
        if any(os.lstat(f"{base}/{name}").st_mtime_ns != STAMP * 10**9 for name in ["", *tree.folders()]):
            return False
        for name, file in tree.files():
            found = os.lstat(f"{base}/{name}")
            if found.st_size != file.digest.size or found.st_mtime_ns != STAMP * 10**9:
                return False
    except OSError:
        return False
    return True


def _publish(made: Path, target: Path) -> None:
    try:
        os.rename(made, target)
    except OSError:
        # Another build was faster: its folder has the same content.
        with suppress(FileNotFoundError):
            if not target.is_dir():
                raise
