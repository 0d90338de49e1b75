"""The build with nothing to do: what the last one looked at, to be looked at again with `stat` alone.

This module is on the no-op path: it imports nothing but what the interpreter has loaded anyway.
"""

from __future__ import annotations

import marshal
import os
import sys
import zlib

VERSION = 3
STAMP_NS = 946_684_800 * 10**9
"""`store.STAMP` in nanoseconds; a test keeps the two equal."""
_REMOTE = "FORGE_REMOTE_"
"""How the variables begin that say what the flags `--remote-` do."""
_RACY = 20_000_000
_RACY_COARSE = 2_100_000_000


def state_folder(home: str, root: str) -> str:
    """Name the folder in which a workspace's notes are kept."""
    return f"{home}/workspaces/{os.path.basename(root) or 'root'}-{zlib.crc32(root.encode()):08x}"


def snapshot_path(state: str, argv: list[str]) -> str:
    """Name the snapshot of one command line."""
    return f"{state}/noop-{zlib.crc32(chr(0).join(_said(argv)).encode()):08x}"


def identity(argv: list[str], root: str, cwd: str, environ: dict[str, str]) -> tuple[object, ...]:
    """Collect what must be the same for a snapshot to speak about this command."""
    settings = sorted(
        (key, value)
        for key, value in environ.items()
        if key.startswith("FORGE_") and (not key.startswith(_REMOTE) or "UPLOAD" in key)
    )
    return (VERSION, sys.version, tuple(_said(argv)), root, cwd, tuple(settings))


def _said(argv: list[str]) -> list[str]:
    """Leave out which remote cache there is: that may be a secret, and what is up to date is so without it."""
    said: list[str] = []
    words = iter(argv)
    for word in words:
        flag = word.replace("_", "-")
        if flag == "--":
            return [*said, word, *words]
        if not flag.startswith("--remote-") or flag.startswith("--remote-upload-"):
            said.append(word)
        elif "=" not in word:
            next(words, None)  # its value
    return said


def unchanged(path: str, expected: tuple[object, ...]) -> dict[str, str] | None:
    """Return what the command then said, if nothing that it depends on has changed; else None."""
    try:
        with open(path, "rb") as file:
            table = marshal.loads(file.read())
        if table["identity"] != expected:
            return None
        for name, signature in table["files"]:
            found = os.stat(name)
            if (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino) != signature:
                return None
        for name, modified in table["folders"]:
            if os.stat(name).st_mtime_ns != modified:
                return None
        for name, size in table["blobs"]:
            found = os.stat(name)
            if found.st_size != size or found.st_mtime_ns != STAMP_NS:
                return None
        for name, target in table["links"]:
            if os.readlink(name) != target:
                return None
        for name in table["absent"]:
            if os.path.lexists(name):
                return None
        said: dict[str, str] = table["said"]
        return said
    except (OSError, ValueError, EOFError, TypeError, KeyError):
        return None


def save(
    path: str,
    expected: tuple[object, ...],
    *,
    started: int,
    files: dict[str, tuple[int, int, int, int] | None],
    folders: dict[str, int],
    blobs: dict[str, int],
    links: dict[str, str],
    said: dict[str, str],
) -> bool:
    """Write a snapshot; False, and none written, when a file changed too lately to be told from a later change.

    `started` is when the first file was read, in nanoseconds since the epoch.
    """
    present = [(name, signature) for name, signature in sorted(files.items()) if signature is not None]
    home = os.path.dirname(os.path.dirname(os.path.dirname(path)))
    # Of the times only the one of the last change is never set by hand. The store's folders change in
    # every build, and were looked at after it.
    changed = [signature[1] for _, signature in present]
    changed += [modified for name, modified in folders.items() if not name.startswith(f"{home}/")]
    if any(_is_racy(when, started) for when in changed):
        return False
    absent = [name for name, signature in files.items() if signature is None]
    absent += [name for name, modified in folders.items() if modified < 0]
    table = {
        "identity": expected,
        "files": present,
        "absent": sorted(absent),
        "folders": sorted((name, modified) for name, modified in folders.items() if modified >= 0),
        "blobs": sorted(blobs.items()),
        "links": sorted(links.items()),
        "said": said,
    }
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            marshal.dump(table, file)
        os.replace(temporary, path)
    except OSError:  # a full disk or one to read only: the build was good, the next one looks at everything
        if os.path.exists(temporary):
            os.unlink(temporary)
        return False
    return True


def _is_racy(when: int, started: int) -> bool:
    """Say whether a change of that time may be followed by another of the same time, as the disk tells it."""
    return when >= started - (_RACY if when % 10**9 else _RACY_COARSE)
