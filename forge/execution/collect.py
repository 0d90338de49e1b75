"""Outputs of an action into the store: by folder handle, never following a link."""

from __future__ import annotations

import os
import posixpath
import stat
from contextlib import suppress
from pathlib import Path

from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, TreeContent
from forge.core.tree import Entry, File, Folder, Symlink, Tree, TreeError
from forge.execution.store import LocalStore

_CHUNK = 1 << 20
SMALL = 1 << 20
"""Bytes of a file that is kept of an action that failed."""


def collect(store: LocalStore, folder: str, outputs: tuple[str, ...]) -> dict[str, Content]:
    """Take each declared output; ActionFailed when one is missing or of the wrong kind."""
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        return {output: _output(store, root, output) for output in outputs}
    except OSError as error:
        raise ActionFailed(f"The output `{error.filename}` cannot be read: {error.strerror}") from error
    finally:
        os.close(root)


def left_files(folder: Path, outputs: tuple[str, ...]) -> dict[str, bytes]:
    """Read what an action that failed has left of its outputs: small files at the top, and no link."""
    found = {}
    for output in outputs:
        if "/" in output:
            continue
        with suppress(OSError):
            handle = os.open(folder / output, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(handle, "rb") as file:
                status = os.fstat(handle)
                if stat.S_ISREG(status.st_mode) and status.st_size <= SMALL:
                    found[output] = file.read()
    return found


def checked_link(target: str, path: str) -> Symlink:
    """Judge a link of an output folder, `path` below that; ActionFailed where it leads out."""
    try:
        target.encode()
    except UnicodeEncodeError as error:
        raise ActionFailed(f"The output `{path}` is a link to {target!a}, which is not UTF-8") from error
    resolved = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if target.startswith("/") or resolved == ".." or resolved.startswith("../"):
        raise ActionFailed(f"The output `{path}` is a link to `{target}`, out of its folder")
    # `..` after a name may start from wherever a link of that name leads to: a chain of them could climb out.
    if ".." in target.lstrip("./").split("/"):
        raise ActionFailed(f"The output `{path}` is a link to `{target}`, with `..` after a name")
    return Symlink(target)


def _output(store: LocalStore, root: int, output: str) -> Content:
    parts = output.rstrip("/").split("/")
    handles = [root]
    try:
        try:
            for part in parts[:-1]:
                handles.append(os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handles[-1]))
            mode = os.stat(parts[-1], dir_fd=handles[-1], follow_symlinks=False).st_mode
        except OSError as error:
            raise ActionFailed(f"The action did not make its output `{output}`") from error
        if output.endswith("/"):
            if not stat.S_ISDIR(mode):
                raise ActionFailed(f"The output `{output}` is not a folder")
            entries: dict[str, Entry] = {}
            _folder(store, handles[-1], parts[-1], "", entries)
            try:
                tree = Tree.of(entries)
            except TreeError as error:
                raise ActionFailed(f"The output `{output}` cannot be kept: {error}") from error
            store.put(tree.encoded)
            return TreeContent(tree.digest, tree.root)
        if not stat.S_ISREG(mode):
            raise ActionFailed(f"The output `{output}` is not a regular file")
        file = _file(store, handles[-1], parts[-1], output)
        return FileContent(file.digest, file.executable)
    finally:
        for handle in handles[1:]:
            os.close(handle)


def _folder(store: LocalStore, parent: int, name: str, prefix: str, out: dict[str, Entry]) -> None:
    handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        for child in sorted(os.listdir(handle)):
            path = f"{prefix}{child}"
            try:
                child.encode()
            except UnicodeEncodeError as error:
                raise ActionFailed(f"The output `{path!a}` has a name that is not UTF-8") from error
            mode = os.stat(child, dir_fd=handle, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                before = len(out)
                _folder(store, handle, child, f"{path}/", out)
                if len(out) == before:
                    out[path] = Folder()
            elif stat.S_ISREG(mode):
                out[path] = _file(store, handle, child, path)
            elif stat.S_ISLNK(mode):
                out[path] = checked_link(os.readlink(child, dir_fd=handle), path)
            else:
                raise ActionFailed(f"The output `{path}` is a device, socket or pipe")
    finally:
        os.close(handle)


def _file(store: LocalStore, parent: int, name: str, path: str) -> File:
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
    with os.fdopen(handle, "rb") as file, store.writer() as writer:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise ActionFailed(f"The output `{path}` is not a regular file")
        if mode & (stat.S_ISUID | stat.S_ISGID):
            raise ActionFailed(f"The output `{path}` is set-uid or set-gid")
        while chunk := file.read(_CHUNK):
            writer.write(chunk)
        return File(writer.commit(), bool(mode & 0o100))
