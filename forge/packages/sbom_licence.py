"""What packages say of their licences: read from the tree that they were unpacked into.

Debian packages say it in /usr/share/doc/<package>/copyright, where that has the machine-readable form
(copyright-format 1.0); wheels in their METADATA, by PEP 639's License-Expression or by what came before it.
Nothing is guessed from a licence's text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.tree import Entries, File, Symlink
from forge.packages.sbom_spdx import DEBIAN, TROVE, identifier

_LARGEST = 4 << 20
"""Bytes of a file that is read; those of real packages have a tenth of it."""
_LONGEST = 120
"""Characters of a name: more is a licence's text."""
_LINKS = 40
_METADATA = re.compile(r"usr/local/lib/python[^/]+/dist-packages/([^/]+)-([^/-]+)\.dist-info/METADATA")
_WORD = re.compile(r"\(|\)|[A-Za-z0-9.+-]+")

Field = tuple[str, str]
"""Name in lower case, and value with its further lines."""


@dataclass(frozen=True, slots=True, order=True)
class Licence:
    """One licence, or one expression of several."""

    text: str
    kind: Literal["id", "expression", "name"] = "name"
    """`id`: an SPDX identifier; `expression`: SPDX identifiers with AND, OR, WITH; `name`: as its author calls it."""


class Licences:
    """Finds the licences of what is in one tree."""

    def __init__(self, entries: Entries, store: BlobStore) -> None:
        self._entries, self._store = entries, store
        self._wheels: dict[str, dict[str, Digest]] = {}
        for path, entry in entries.items():
            if path.endswith("/METADATA") and isinstance(entry, File) and (match := _METADATA.fullmatch(path)):
                self._wheels.setdefault(_normal(match[1]), {})[match[2]] = entry.digest

    def debian(self, package: str) -> tuple[Licence, ...]:
        """List the licences that a Debian package's copyright file names, sorted; none where it is not of that form."""
        entry = resolve(self._entries, f"usr/share/doc/{package}/copyright")
        return parse_copyright(self._text(entry.digest)) if entry else ()

    def wheel(self, name: str, version: str) -> tuple[Licence, ...]:
        """Tell the licence that a wheel declares."""
        found = self._wheels.get(_normal(name), {})
        digest = found.get(version) or (next(iter(found.values())) if len(found) == 1 else None)
        return parse_metadata(self._text(digest)) if digest else ()

    def _text(self, digest: Digest) -> str:
        return self._store.read(digest).decode(errors="replace") if digest.size <= _LARGEST else ""


def resolve(entries: Entries, path: str) -> File | None:
    """Follow the links of a path inside the tree; None when it leads to no file."""
    pending = [part for part in reversed(path.split("/")) if part]
    done: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        done.append(part)
        entry = entries.get("/".join(done))
        if isinstance(entry, Symlink):
            links += 1
            if links > _LINKS:
                return None
            if entry.target.startswith("/"):
                done.clear()
            else:
                done.pop()
            pending += reversed(entry.target.split("/"))
    entry = entries.get("/".join(done))
    return entry if isinstance(entry, File) else None


def parse_copyright(text: str) -> tuple[Licence, ...]:
    """Read debian/copyright: the licences of its `Files` paragraphs and of its header."""
    header, *rest = [dict(paragraph) for paragraph in _paragraphs(text)] or [{}]
    form = header.get("format") or header.get("format-specification", "")
    if "copyright-format" not in form and "dep5" not in form:
        return ()
    declared = [
        each["license"] for each in (header, *rest) if "license" in each and (each is header or "files" in each)
    ]
    names = {name for text in declared for name in _debian_names(text)}
    return tuple(sorted({_debian(name) for name in names}))


def parse_metadata(text: str) -> tuple[Licence, ...]:
    """Read a wheel's METADATA: License-Expression, else License where it is one, else classifiers, else its name."""
    fields = next(_paragraphs(text), [])
    expression = _single(fields, "license-expression")
    if expression:
        return (_expression(expression, trusted=True),)
    named = _single(fields, "license")
    known = _expression(named, trusted=False)
    if known.kind != "name":
        return (known,)
    prefix = "License :: "
    classes = [
        value.removeprefix(prefix) for name, value in fields if name == "classifier" and value.startswith(prefix)
    ]
    last = [each.rpartition(" :: ")[2] for each in classes]
    found = {Licence(TROVE[each], "id") if each in TROVE else Licence(each) for each in last if each != "OSI Approved"}
    if not found and named and named.lower() != "unknown":
        found = {known}
    return tuple(sorted(found))


def _paragraphs(text: str) -> Iterator[list[Field]]:
    """Read `Name: value` lines, as both kinds of file have them; a line that begins with a space goes on."""
    fields: list[Field] = []
    for line in text.splitlines():
        if not line.strip():
            if fields:
                yield fields
            fields = []
        elif line[0] in " \t":
            if fields:
                name, value = fields[-1]
                fields[-1] = (name, f"{value}\n{line.strip()}")
        elif not line.startswith("#") and ":" in line:
            name, _, value = line.partition(":")
            fields.append((name.strip().lower(), value.strip()))
    if fields:
        yield fields


def _single(fields: Sequence[Field], name: str) -> str:
    """Take a field of one short line; a longer one is a licence's text."""
    value = dict(fields).get(name, "").strip()
    return value if "\n" not in value and len(value) <= _LONGEST else ""


def _debian_names(text: str) -> list[str]:
    """Split a short name where it joins several that all hold; with `or` it is one."""
    name = " ".join(text.partition("\n")[0].split())
    if re.search(r"\bor\b", name):
        return [name]
    return [each.strip() for each in re.split(r",?\s+and\s+|,\s*", name) if each.strip()]


def _debian(name: str) -> Licence:
    lower = name.lower()
    found = DEBIAN.get(lower) or DEBIAN.get(re.sub(r"\.0(\+?)$", r"\1", lower)) or identifier(name)
    return Licence(found, "id") if found else Licence(name[:_LONGEST])


def _expression(text: str, *, trusted: bool) -> Licence:
    """Read an SPDX expression; where it is not `trusted` to be one, each of its identifiers must be known."""
    if one := identifier(text):
        return Licence(one, "id")
    words = _WORD.findall(text)
    terms = [word for word in words if word not in ("(", ")")]
    joined = "".join(words) == "".join(text.split()) and len(terms) % 2 == 1
    known = trusted or (len(terms) > 1 and all(identifier(name) for name in terms[::2]))
    if known and joined and all(word in ("AND", "OR", "WITH") for word in terms[1::2]):
        return Licence(" ".join(text.split()), "expression")
    return Licence(text[:_LONGEST])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


__all__ = ["Licence", "Licences", "parse_copyright", "parse_metadata", "resolve"]
