"""Look through a layer's tar: names, kinds, owners, modes, whiteouts, and the hashes of its bytes.

Two sets of rules. Every layer obeys those without which engines disagree or a file lands outside the image.
Layers made by forge also obey its own: sorted, complete, owned by 0, no setuid, no times.
"""

from __future__ import annotations

import posixpath
import tarfile
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from forge.core.errors import MaterialError
from forge.oci.check import Check
from forge.oci.mediatype import Compression
from forge.oci.reader import CHUNK, Damaged, LayerReader, read_members

WHITEOUT: Final = ".wh."
"""Prefix of a name that deletes another one from lower layers."""
OPAQUE: Final = ".wh..wh..opq"
"""Name that hides all that lower layers have in a folder."""

_OURS: Final = frozenset({tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE})
_ANY: Final = _OURS | {tarfile.AREGTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE}
_PAX: Final = frozenset({"path", "linkpath", "size"})


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """What the bytes of a layer are."""

    blob_hash: str
    blob_size: int
    diff_id: str


def scan(check: Check, blob: BinaryIO, compression: Compression, *, foreign: bool) -> LayerFacts:
    """Read a layer once and note its faults."""
    reader = LayerReader(blob, compression)
    try:
        try:
            _scan_members(_Members(check, foreign=foreign), reader)
            _scan_rest(check, reader, foreign=foreign)
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            check.fault(f"The tar is malformed: {str(error)[:200]}")
            while reader.read(CHUNK):
                pass  # for the hashes
    except Damaged as error:
        check.fault(f"The layer cannot be decompressed: {error}")
        reader.drain_blob()
    except (MaterialError, OSError) as error:
        check.fault(f"The layer cannot be read: {error}")
    return LayerFacts(reader.blob_hash, reader.blob_size, f"sha256:{reader.plain_hash}")


@dataclass(slots=True)
class _Members:
    check: Check
    foreign: bool
    seen: dict[str, bool] = field(default_factory=dict)
    """Path -> whether it is a folder."""
    before: str = ""

    def add(self, member: tarfile.TarInfo) -> None:
        """Check one header."""
        path = member.name
        if self.foreign:
            path = "" if path == "." else path.removeprefix("./")
            if not path:
                return
        if not self._is_sane(path):
            return
        if path in self.seen:
            self.check.fault(f"`{path}` is there twice")
        for parent in _parents(path):
            if not self.seen.get(parent, True):
                self.check.fault(f"`{path}` lies below `{parent}`, which is not a folder")
        self._check_kind(path, member)
        self._check_whiteout(path, member)
        if not self.foreign:
            self._check_ours(path, member)
        self.seen[path] = member.isdir()
        self.before = path

    def _is_sane(self, path: str) -> bool:
        if any(part in ("", ".", "..") for part in path.split("/")) or "\0" in path:
            self.check.fault(f"`{_shown(path)}` is not a relative path in plain form")
            return False
        if not _is_text(path):
            self.check.fault(f"The name {path!a} is not UTF-8")
            return False
        return True

    def _check_kind(self, path: str, member: tarfile.TarInfo) -> None:
        if member.type not in (_ANY if self.foreign else _OURS):
            self.check.fault(f"`{path}` is neither file, folder nor link, but of type {member.type!r}")
        if (member.issym() or member.islnk()) and not member.linkname:
            self.check.fault(f"The link `{path}` leads nowhere")
        if member.islnk() and ".." in member.linkname.split("/"):
            self.check.fault(f"The hard link `{path}` leads out of the image")
        if not member.isreg() and not member.islnk() and member.size:
            self.check.fault(f"`{path}` has content and is no file")

    def _check_whiteout(self, path: str, member: tarfile.TarInfo) -> None:
        name = posixpath.basename(path)
        if not name.startswith(WHITEOUT):
            if any(part.startswith(WHITEOUT) for part in path.split("/")):
                self.check.fault(f"`{path}` lies below a whiteout")
            return
        hidden = name.removeprefix(WHITEOUT)
        wrong = hidden in ("", ".", "..") or hidden.startswith(WHITEOUT)
        if (wrong and name != OPAQUE) or not member.isreg() or member.size:
            self.check.fault(f"The whiteout `{path}` is malformed")

    def _check_ours(self, path: str, member: tarfile.TarInfo) -> None:
        check = self.check
        if path < self.before:
            check.fault(f"`{path}` comes after `{self.before}`")
        parent = posixpath.dirname(path)
        if parent and parent not in self.seen:
            check.fault(f"`{path}` comes without its folder")
        if member.uid or member.gid or member.uname or member.gname:
            check.fault(f"`{path}` belongs to {member.uid}:{member.gid} `{member.uname}:{member.gname}`")
        if member.mode & 0o6000:
            check.fault(f"`{path}` is setuid or setgid: {member.mode:o}")
        if member.mode & 0o002 and not member.issym() and not (member.isdir() and member.mode & 0o1000):
            check.fault(f"Anybody may write `{path}`: {member.mode:o}")
        if member.mtime:
            check.fault(f"`{path}` has the time {member.mtime}")
        # Among the others are file capabilities: setuid by another name.
        for key in sorted(member.pax_headers.keys() - _PAX):
            check.fault(f"`{path}` has the attribute `{key}`")


def _scan_members(members: _Members, reader: LayerReader) -> None:
    for member in read_members(reader):
        members.add(member)


def _scan_rest(check: Check, reader: LayerReader, *, foreign: bool) -> None:
    """Nothing may follow the archive's end, which is two blocks of zeros."""
    # tarfile takes a header that it cannot read for the end: then these bytes are not zeros.
    clean, size = not any(reader.last), len(reader.last)
    while rest := reader.read(CHUNK):
        size += len(rest)
        clean = clean and not rest.strip(b"\0")
    if not clean:
        check.fault("Bytes follow the end of the archive")
    elif size < 1024 and not foreign:
        check.fault("The archive lacks its end")


def _parents(path: str) -> list[str]:
    found = []
    while path := posixpath.dirname(path):
        found.append(path)
    return found


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(path: str) -> str:
    return path[:200].encode(errors="backslashreplace").decode()
