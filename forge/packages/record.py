"""The RECORD of a wheel: which files it holds and their hashes.

https://packaging.python.org/en/latest/specifications/recording-installed-packages/
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from forge.core.digest import Digest
from forge.packages.archive import ArchiveError

_ALGORITHMS = {"sha256": 32, "sha384": 48, "sha512": 64}
_HEX = re.compile(r"[0-9a-f]+")
_BASE64 = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Line:
    """What RECORD says of one file."""

    algorithm: str
    """`sha256`, `sha384` or `sha512`; empty where no hash is given."""
    hash: bytes
    size: int | None


def parse(text: str) -> dict[str, Line]:
    """Read a RECORD; ArchiveError names the line at fault."""
    lines: dict[str, Line] = {}
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise ArchiveError(f"RECORD is no CSV: {error}") from error
    for row in rows:
        if not row:
            continue
        line = _line(row)
        if lines.setdefault(row[0], line) != line:
            raise ArchiveError(f"RECORD says two things of `{row[0]}`")
    return lines


def render(files: Mapping[str, Digest], *, unhashed: Iterable[str]) -> bytes:
    """Write the RECORD of what was installed, sorted."""
    rows = [(path, f"sha256={_encode(bytes.fromhex(digest.hash))}", str(digest.size)) for path, digest in files.items()]
    rows += [(path, "", "") for path in unhashed]
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(sorted(rows))
    return out.getvalue().encode()


def _line(row: list[str]) -> Line:
    if len(row) != 3:
        raise ArchiveError(f"RECORD has a line of {len(row)} fields, `{','.join(row)[:80]}`")
    path, hash_, size = row
    if size and not (size.isascii() and size.isdigit() and len(size) < 20):
        raise ArchiveError(f"RECORD gives `{path}` the size `{size[:20]}`")
    if not hash_:
        return Line("", b"", int(size) if size else None)
    algorithm, _, value = hash_.partition("=")
    length = _ALGORITHMS.get(algorithm)
    if length is None:
        raise ArchiveError(
            f"RECORD gives `{path}` the hash `{algorithm[:20]}`, expected one of [{', '.join(_ALGORITHMS)}]"
        )
    return Line(algorithm, _decode(path, value, length), int(size) if size else None)


def _decode(path: str, value: str, length: int) -> bytes:
    value = value.rstrip("=")
    # gmsh writes hexadecimal digits, which cannot be taken for base64: another length.
    if len(value) == 2 * length and _HEX.fullmatch(value):
        return bytes.fromhex(value)
    if _BASE64.fullmatch(value):
        try:
            decoded = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
        except ValueError:
            decoded = b""
        if len(decoded) == length:
            return decoded
    raise ArchiveError(f"RECORD gives `{path}` a malformed hash")


def _encode(hash_: bytes) -> str:
    return base64.urlsafe_b64encode(hash_).rstrip(b"=").decode()
