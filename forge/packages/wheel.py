"""Install a wheel into tree entries, where Debian's Python looks for it.

https://packaging.python.org/en/latest/specifications/binary-distribution-format/
No byte code is written, nothing is run, and the same wheel gives the same tree on any host.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from forge.core.digest import Digest
from forge.core.tree import Entry, File
from forge.packages import record, script
from forge.packages.archive import ArchiveError, Intake
from forge.packages.ziparchive import ZipArchive, is_executable

INSTALLER = b"forge\n"
SITE = "dist-packages"
"""The folder that Debian's and Ubuntu's Python look into; where Python is not theirs it is `site-packages`."""

_UNRECORDED = ("RECORD", "RECORD.jws", "RECORD.p7s")
"""Files of the .dist-info folder that RECORD need not name; the signatures do not hold for the RECORD written here."""
_REPLACED = (*_UNRECORDED, "INSTALLER", "REQUESTED", "direct_url.json")
_DIST_INFO = re.compile(r"([^/]+-[^/-]+)\.dist-info/")
_MAX_SCRIPT = 1 << 20


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where a wheel's parts go: Debian's scheme `posix_local`, or with `site-packages` the one of Python itself."""

    python: str
    name: str
    """`name-version`, as the wheel's own folders are called."""
    folder: str

    @property
    def site(self) -> str:
        return f"usr/local/lib/python{self.python}/{self.folder}"

    @property
    def dist_info(self) -> str:
        return f"{self.name}.dist-info"

    def scheme(self, key: str) -> str:
        """Name the folder for a key of the .data folder."""
        project = self.name.rpartition("-")[0]
        schemes = {
            "purelib": self.site,
            "platlib": self.site,
            "scripts": "usr/local/bin",
            "headers": f"usr/local/include/python{self.python}/{project}",
            "data": "usr/local",
        }
        if key not in schemes:
            raise ArchiveError(f"`{self.name}.data/{key}` is none of [{', '.join(schemes)}]")
        return schemes[key]

    def destination(self, member: str) -> tuple[str, bool]:
        """Say where a member goes, and whether it is a program."""
        folder, _, rest = member.partition("/")
        if folder != f"{self.name}.data":
            return f"{self.site}/{member}", False
        key, _, path = rest.partition("/")
        if not path:
            raise ArchiveError(f"`{member}` belongs to no scheme")
        return f"{self.scheme(key)}/{path}", key == "scripts"


@dataclass(slots=True)
class _Installation:
    """The files laid out so far."""

    entries: dict[str, Entry] = field(default_factory=dict)
    digests: dict[str, Digest] = field(default_factory=dict)

    def add(self, path: str, digest: Digest, *, executable: bool = False) -> None:
        if path in self.entries:
            raise ArchiveError(f"Two files go to `{path}`")
        self.entries[path] = File(digest, executable)
        self.digests[path] = digest


def unpack(stream: BinaryIO, intake: Intake, *, python: str, file_name: str = "", site: str = SITE) -> dict[str, Entry]:
    """Store the wheel's files; ArchiveError when it is damaged, hostile, or not what its RECORD says."""
    archive = ZipArchive(stream)
    layout = _Layout(python, _name(archive, file_name), site)
    _check_version(archive, layout)
    lines = _recorded(archive, layout)
    installation = _Installation()
    for member, info in archive.members.items():
        folder, _, name = member.partition("/")
        if folder == layout.dist_info and name in _REPLACED:
            continue
        path, is_program = layout.destination(member)
        digest = _keep(archive, member, lines[member], intake)
        if is_program:
            digest = _with_interpreter(archive, member, digest, intake)
        installation.add(path, digest, executable=is_program or is_executable(info))
        intake.advance(info.compress_size)
    _generate(archive, layout, installation, intake)
    return installation.entries


def _name(archive: ZipArchive, file_name: str) -> str:
    """Find the one .dist-info folder; it must be the file's own."""
    found = {match[1] for member in archive.members if (match := _DIST_INFO.match(member))}
    if len(found) != 1:
        raise ArchiveError(f"Must have one .dist-info folder, has [{', '.join(sorted(found))}]")
    name = found.pop()
    expected = file_name.split("-")
    if file_name.endswith(".whl") and len(expected) > 4:
        project, _, version = name.rpartition("-")
        if (_normal(project), _normal(version)) != (_normal(expected[0]), _normal(expected[1])):
            raise ArchiveError(f"Holds `{name}`, which is not what the file is called")
    return name


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _check_version(archive: ZipArchive, layout: _Layout) -> None:
    text = _text(archive, f"{layout.dist_info}/WHEEL")
    versions = [
        line.partition(":")[2].strip() for line in text.splitlines() if line.lower().startswith("wheel-version:")
    ]
    if len(versions) != 1 or versions[0].split(".")[0] != "1":
        raise ArchiveError(f"Its Wheel-Version is [{', '.join(versions)}], forge reads 1.x")


def _recorded(archive: ZipArchive, layout: _Layout) -> dict[str, record.Line]:
    """Read RECORD and check that it names the archive's files, all of them and no others."""
    lines = record.parse(_text(archive, f"{layout.dist_info}/RECORD"))
    exempt = {f"{layout.dist_info}/{name}" for name in _UNRECORDED}
    for member in archive.members:
        if member not in exempt and (member not in lines or not lines[member].algorithm):
            raise ArchiveError(f"RECORD has no hash of `{member}`")
    for path in lines:
        if path not in archive.members and path not in exempt:
            raise ArchiveError(f"RECORD names `{path}`, which is not in the wheel")
    return lines


def _keep(archive: ZipArchive, member: str, line: record.Line, intake: Intake) -> Digest:
    """Store a member and compare it with RECORD; the store's own hash serves where RECORD's is SHA-256."""
    size = archive.members[member].file_size
    other = None if line.algorithm == "sha256" else hashlib.new(line.algorithm)
    digest = intake.keep(_hashed(archive.chunks(member), other), size)
    found = other.digest() if other else bytes.fromhex(digest.hash)
    if found != line.hash or line.size not in (None, digest.size):
        raise ArchiveError(f"`{member}` is not what RECORD says")
    return digest


def _hashed(chunks: Iterator[bytes], other: hashlib._Hash | None) -> Iterator[bytes]:
    for chunk in chunks:
        if other:
            other.update(chunk)
        yield chunk


def _with_interpreter(archive: ZipArchive, member: str, digest: Digest, intake: Intake) -> Digest:
    """Rewrite a script's first line; programs too large to be scripts stay as they are."""
    if digest.size > _MAX_SCRIPT:
        return digest
    data = archive.read(member)
    rewritten = script.first_line(data)
    return digest if rewritten == data else intake.keep([rewritten], len(rewritten))


def _generate(archive: ZipArchive, layout: _Layout, installation: _Installation, intake: Intake) -> None:
    """Write what an installer adds: programs for entry points, INSTALLER and a RECORD of it all."""
    declared = f"{layout.dist_info}/entry_points.txt"
    if declared in archive.members:
        for name, program in sorted(script.entry_points(_text(archive, declared)).items()):
            installation.add(
                f"{layout.scheme('scripts')}/{name}", intake.keep([program], len(program)), executable=True
            )
    folder = f"{layout.site}/{layout.dist_info}"
    installation.add(f"{folder}/INSTALLER", intake.keep([INSTALLER], len(INSTALLER)))
    relative = {posixpath.relpath(path, layout.site): digest for path, digest in installation.digests.items()}
    written = record.render(relative, unhashed=[f"{layout.dist_info}/RECORD"])
    installation.add(f"{folder}/RECORD", intake.keep([written], len(written)))


def _text(archive: ZipArchive, member: str) -> str:
    if member not in archive.members:
        raise ArchiveError(f"Has no `{member}`")
    try:
        return archive.read(member).decode()
    except UnicodeDecodeError as error:
        raise ArchiveError(f"`{member}` is not UTF-8") from error
