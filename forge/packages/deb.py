"""Read a Debian package into tree entries; no maintainer script is run.

deb(5). Paths follow the merged /usr of every Debian since bookworm. Links' targets stay as they are: they
resolve here as they do on a system that dpkg has installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from forge.core.tree import Entry, File, Folder, Symlink
from forge.packages import ar, tarball
from forge.packages.archive import ArchiveError, Intake, Readable, safe_path
from forge.packages.compression import Decompressed

MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Folders of the root that are links into usr/."""

DROPPED = (
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/doc-base",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
)
"""Folders left out; licences in usr/share/doc stay."""

STATUS = "var/lib/dpkg/status.d"
"""Where scanners find which packages an image without dpkg holds (distroless' convention)."""

_KEPT = re.compile(r"usr/share/doc/[^/]+(/copyright)?")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_MAX_CONTROL = 1 << 20


def unpack(stream: Readable, intake: Intake) -> dict[str, Entry]:
    """Store the package's files; ArchiveError when it is damaged or holds what a package must not."""
    parts = _parts(stream, intake)
    if next(parts).read(16)[:2] != b"2.":
        raise ArchiveError("Not a Debian package of format 2")
    package, control = _control(next(parts))
    entries = _data(next(parts), intake)
    if next(parts, None) is not None:
        raise ArchiveError("Has members after its data")
    status = f"{STATUS}/{package}"
    if status in entries:
        raise ArchiveError(f"Holds `{status}` itself")
    entries[status] = File(intake.keep([control], len(control)))
    return entries


def merged_path(path: str) -> str:
    """Move a path into usr/ where the folder is merged."""
    return f"usr/{path}" if path.split("/", 1)[0] in MERGED else path


def _parts(stream: Readable, intake: Intake) -> Iterator[ar.Member]:
    """Yield the three members a package has, in their order; names with `_` are for local use, says deb(5)."""
    expected = ["debian-binary", "control.tar", "data.tar"]
    for member in ar.members(stream, intake.advance):
        if member.name.startswith("_"):
            continue
        if not expected or not (member.name == expected[0] or member.name.startswith(f"{expected[0]}.")):
            raise ArchiveError(f"Unexpected member `{member.name}`")
        del expected[0]
        yield member
    if expected:
        raise ArchiveError(f"Has no `{expected[0]}`")


def _control(member: ar.Member) -> tuple[str, bytes]:
    """Find the package's name and its paragraph of dpkg's status."""
    found: list[str] = []
    for entry, body in tarball.members(Decompressed(member)):
        if safe_path(entry.name) == "control":
            if entry.kind != "file" or entry.size > _MAX_CONTROL:
                raise ArchiveError("`control` is no small file")
            found.append(_text(b"".join(body)))
    if len(found) != 1:
        raise ArchiveError("Must have one `control` file")
    lines = [line.rstrip() for line in found[0].strip().splitlines()]
    names = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("package:")]
    if len(names) != 1 or not _PACKAGE.fullmatch(names[0]) or "" in lines:
        raise ArchiveError("`control` must be one paragraph that names one package")
    rest = [line for line in lines if not line.lower().startswith(("package:", "status:"))]
    text = "\n".join([f"Package: {names[0]}", "Status: install ok installed", *rest])
    return names[0], f"{text}\n".encode()


def _data(member: ar.Member, intake: Intake) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for entry, body in tarball.members(Decompressed(member)):
        path = merged_path(safe_path(entry.name))
        if not path and entry.kind != "folder":
            raise ArchiveError("The root is no folder")
        if not path or _is_dropped(path) or _is_merge(path, entry):
            continue
        made = _entry(entry, path, body, intake, entries)
        present = entries.get(path, made)
        if type(present) is not type(made) or (path in entries and not isinstance(made, Folder)):
            raise ArchiveError(f"Two entries are called `{path}`")
        entries[path] = made
    return entries


def _entry(
    entry: tarball.Member, path: str, body: Iterator[bytes], intake: Intake, present: Mapping[str, Entry]
) -> Entry:
    if entry.kind == "folder":
        return Folder()
    if entry.kind == "file":
        return File(intake.keep(body, entry.size), entry.executable)
    if entry.kind == "symlink":
        return Symlink(entry.link)
    target = present.get(merged_path(safe_path(entry.link)))
    if not isinstance(target, File):
        raise ArchiveError(f"`{path}` is a hard link to `{entry.link}`, which is no file before it")
    return target


def _is_merge(path: str, entry: tarball.Member) -> bool:
    """Say whether this is the link `lib -> usr/lib` itself, which a root file system makes of its own."""
    return entry.kind == "symlink" and path.removeprefix("usr/") in MERGED and entry.link.strip("/") == path


def _is_dropped(path: str) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in DROPPED) and not _KEPT.fullmatch(path)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ArchiveError("`control` is not UTF-8") from error
