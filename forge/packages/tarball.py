"""A strict tar reader, forwards only.

Python's own takes a damaged header, or the end of the file, for the end of the archive, and so reads half a
package without a word. This one wants the end to be marked. It knows ustar, GNU long names and pax, and
refuses what no package holds: devices, pipes, sparse files, contents where there can be none.
https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html, `ustar Interchange Format`
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from forge.packages.archive import CHUNK, MAX_BYTES, MAX_ENTRIES, ArchiveError, Readable

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_MAX_EXTRA = 1 << 20
"""Most bytes of a long name or a pax header."""

Kind = Literal["file", "folder", "symlink", "hardlink"]
_KINDS: dict[bytes, Kind] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"5": "folder",
}
_REFUSED = {b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file"}


@dataclass(frozen=True, slots=True)
class Member:
    """One entry's header."""

    name: str
    """As written, unchecked."""
    kind: Kind
    executable: bool
    size: int
    link: str
    """What a link points to, as written, unchecked."""


def members(stream: Readable) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """Yield headers with their contents; contents left unread are skipped. Reads `stream` to its end."""
    extra: dict[str, str] = {}
    for _ in range(MAX_ENTRIES):
        header = _exactly(stream, _BLOCK)
        if header == _ZEROS:
            return _finish(stream)
        flag, size = header[156:157], _checked_size(header)
        if flag in (b"L", b"K", b"x", b"g"):
            _read_extra(flag, _padded(stream, size), extra)
            continue
        member = _member(header, size, extra)
        extra = {}
        body = _body(stream, member.size)
        yield member, body
        for _rest in body:
            pass
    raise ArchiveError(f"Holds more than {MAX_ENTRIES} entries")


def _member(header: bytes, size: int, extra: dict[str, str]) -> Member:
    name = extra.get("path") or _name(header)
    flag = header[156:157]
    kind = _KINDS.get(flag)
    if kind is None:
        raise ArchiveError(f"`{name}` is {_REFUSED.get(flag, f'of unknown type {flag!r}')}")
    if kind == "file" and name.endswith("/"):
        kind = "folder"
    if "size" in extra:
        size = _decimal(extra["size"])
    if size and kind != "file":
        raise ArchiveError(f"`{name}` has contents and is no file")
    link = extra.get("linkpath") or _text(header[157:257])
    if kind in ("symlink", "hardlink") and (not link or "\0" in link):
        raise ArchiveError(f"`{name}` links to nothing")
    return Member(name, kind, bool(_number(header[100:108]) & 0o100), size, link)


def _checked_size(header: bytes) -> int:
    if _number(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * 0x20:
        raise ArchiveError("Damaged tar header")
    size = _number(header[124:136])
    if size > MAX_BYTES:
        raise ArchiveError(f"Holds a file of {size} bytes")
    return size


def _name(header: bytes) -> str:
    name = _text(header[:100])
    # GNU's variant of the format keeps times where ustar keeps the prefix.
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _read_extra(flag: bytes, data: bytes, extra: dict[str, str]) -> None:
    if flag == b"L":
        extra["path"] = _text(data)
    elif flag == b"K":
        extra["linkpath"] = _text(data)
    else:
        records = _pax(data)
        if any(key.startswith("GNU.sparse") for key in records):
            raise ArchiveError("Holds a sparse file")
        known = {key: value for key, value in records.items() if key in ("path", "linkpath", "size")}
        if known and flag == b"g":
            raise ArchiveError("Has one name for all entries")
        extra.update(known)


def _pax(data: bytes) -> dict[str, str]:
    records: dict[str, str] = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        length = _decimal(data[position:space].decode("latin-1")) if space > 0 else 0
        record = data[space + 1 : position + length]
        key, equals, value = record.partition(b"=")
        if not equals or not record.endswith(b"\n") or position + length > len(data):
            raise ArchiveError("Damaged pax header")
        name = key.decode("latin-1")
        # Other records (extended attributes) may be any bytes.
        if name in ("path", "linkpath", "size"):
            records[name] = _decode(value[:-1])
        else:
            records[name] = ""
        position += length
    return records


def _body(stream: Readable, size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = stream.read(min(left, CHUNK))
        if not chunk:
            raise ArchiveError("Cut short in a file")
        left -= len(chunk)
        yield chunk
    if size % _BLOCK:
        _exactly(stream, _BLOCK - size % _BLOCK)


def _padded(stream: Readable, size: int) -> bytes:
    if size > _MAX_EXTRA:
        raise ArchiveError(f"Has a name of {size} bytes")
    return b"".join(_body(stream, size))


def _finish(stream: Readable) -> None:
    """Read on to the end, where compressed streams keep their checksum."""
    while rest := stream.read(1 << 16):
        if rest.count(0) != len(rest):
            raise ArchiveError("Has data after its end")


def _exactly(stream: Readable, size: int) -> bytes:
    data = stream.read(size)
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise ArchiveError("Cut short")
        data += more
    return data


def _number(field: bytes) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.strip(b" \0")
    if text.strip(b"01234567"):
        raise ArchiveError("Damaged tar header")
    return int(text or b"0", 8)


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ArchiveError("Damaged pax header")
    return int(text)


def _text(field: bytes) -> str:
    return _decode(field.split(b"\0", 1)[0])


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ArchiveError(f"The name {data[:80]!r} is not UTF-8") from error
