"""File trees as Merkle trees: the Remote Execution API's Directory and Tree messages.

A tree has three kinds of entry and no more: files (executable or not), symbolic links, folders.
Owners, times and other mode bits are not content.
https://github.com/bazelbuild/remote-apis, `Directory`, `Tree`
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from forge.core import wire
from forge.core.digest import Digest


@dataclass(frozen=True, slots=True)
class File:
    """A regular file."""

    digest: Digest
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that exists though nothing may be in it."""


Entry = File | Symlink | Folder
Entries = Mapping[str, Entry]
"""Relative paths with `/`, no leading or trailing one; parents of an entry are implied."""


_DEEPEST = 128
"""Folders within folders: more are an attack, and would meet Python's limit of recursion."""
_MOST_FOLDERS = 1 << 17
"""Folders of one tree: a few small messages can name one another so often that no machine holds what they mean."""


class TreeError(ValueError):
    """Entries that cannot stand in one tree: a bad path, or two things under one name."""


@dataclass(frozen=True, slots=True)
class Directory:
    """One folder's own entries; subfolders by digest."""

    files: tuple[tuple[str, File], ...] = ()
    directories: tuple[tuple[str, Digest], ...] = ()
    symlinks: tuple[tuple[str, Symlink], ...] = ()

    def encode(self) -> bytes:
        """Encode canonically: each list sorted by name."""
        out = bytearray()
        for name, file in sorted(self.files, key=lambda item: item[0]):
            node = wire.string(1, name) + wire.message(2, encode_digest(file.digest))
            out += wire.message(1, node + wire.integer(4, file.executable))
        for name, digest in sorted(self.directories):
            out += wire.message(2, wire.string(1, name) + wire.message(2, encode_digest(digest)))
        for name, link in sorted(self.symlinks, key=lambda item: item[0]):
            out += wire.message(3, wire.string(1, name) + wire.string(2, link.target))
        return bytes(out)

    @classmethod
    def decode(cls, encoded: bytes) -> Directory:
        """Read what `encode` wrote; ValueError when it is no Directory."""
        files: list[tuple[str, File]] = []
        directories: list[tuple[str, Digest]] = []
        symlinks: list[tuple[str, Symlink]] = []
        for number, value in wire.fields(encoded):
            if number > 3:
                continue
            node = dict(wire.fields(wire.as_bytes(value)))
            name = wire.as_text(node.get(1, b""))
            _check_name(name)
            if number == 1:
                executable = bool(node.get(4, 0))
                files.append((name, File(decode_digest(wire.as_bytes(node.get(2, b""))), executable)))
            elif number == 2:
                directories.append((name, decode_digest(wire.as_bytes(node.get(2, b"")))))
            else:
                symlinks.append((name, Symlink(wire.as_text(node.get(2, b"")))))
        names = [name for group in (files, directories, symlinks) for name, _ in group]
        if len(names) != len(set(names)):
            raise TreeError("Two entries of a folder share a name")
        return cls(tuple(files), tuple(directories), tuple(symlinks))


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole tree: flat entries, sorted, and the Merkle root that follows from them."""

    entries: Entries
    root: Digest
    """Digest of the root Directory message."""
    encoded: bytes = field(repr=False, compare=False)
    """The Tree message: the root Directory first, then every other one, once, by digest."""

    @classmethod
    def of(cls, entries: Entries) -> Tree:
        """Make the Merkle tree; TreeError when the entries contradict one another."""
        nested = _nest(entries)
        children: dict[str, bytes] = {}
        root = _encode_nested(nested, children)
        tree = wire.message(1, root) + b"".join(wire.message(2, children[key]) for key in sorted(children))
        parents = {path[:end] for path in entries for end in range(len(path)) if path[end] == "/"}
        flat = {path: entry for path, entry in sorted(entries.items()) if path not in parents or entry != Folder()}
        return cls(flat, Digest.of(root), tree)

    @classmethod
    def decode(cls, encoded: bytes) -> Tree:
        """Read a Tree message; ValueError when it is none or lacks a child that it names."""
        root = b""
        children: dict[Digest, Directory] = {}
        for number, value in wire.fields(encoded):
            if number == 1:
                root = wire.as_bytes(value)
            elif number == 2:
                child = wire.as_bytes(value)
                children[Digest.of(child)] = Directory.decode(child)
        entries: dict[str, Entry] = {}
        visits = iter(range(_MOST_FOLDERS))
        _walk(Directory.decode(root), "", children, entries, visits)
        return cls(dict(sorted(entries.items())), Digest.of(root), encoded)

    @property
    def digest(self) -> Digest:
        """Digest of the Tree message."""
        return Digest.of(self.encoded)

    def files(self) -> Iterator[tuple[str, File]]:
        """Yield the regular files with their paths, sorted."""
        for path, entry in self.entries.items():
            if isinstance(entry, File):
                yield path, entry

    def folders(self) -> list[str]:
        """List every folder, implied or not, sorted; the root is not among them."""
        found = {path for path, entry in self.entries.items() if isinstance(entry, Folder)}
        for path in self.entries:
            parent = posixpath.dirname(path)
            while parent and parent not in found:
                found.add(parent)
                parent = posixpath.dirname(parent)
        return sorted(found)


def merge(layers: Iterable[Entries], *, replace: bool = False) -> dict[str, Entry]:
    """Lay trees over one another; TreeError on two different things under one name, unless `replace`: the last wins."""
    result: dict[str, Entry] = {}
    for layer in layers:
        for path, entry in layer.items():
            if not replace and result.get(path, entry) != entry:
                raise TreeError(f"Two different entries are called `{path}`")
            result[path] = entry
    return result


def under(prefix: str, entries: Entries) -> dict[str, Entry]:
    """Move entries below the folder `prefix`."""
    return {f"{prefix}/{path}" if prefix else path: entry for path, entry in entries.items()}


def encode_digest(digest: Digest) -> bytes:
    """Encode the Digest message."""
    return wire.string(1, digest.hash) + wire.integer(2, digest.size)


def decode_digest(encoded: bytes) -> Digest:
    """Read a Digest message; ValueError when it is none."""
    node = dict(wire.fields(encoded))
    return Digest(wire.as_text(node.get(1, b"")), wire.signed(node.get(2, 0)))


_Nested = dict[str, "File | Symlink | _Nested"]


def _nest(entries: Entries) -> _Nested:
    root: _Nested = {}
    for path, entry in entries.items():
        *parents, name = path.split("/")
        if len(parents) > _DEEPEST:
            raise TreeError("Tree is nested too deeply")
        node = root
        for parent in parents:
            _check_name(parent)
            below = node.setdefault(parent, {})
            if not isinstance(below, dict):
                raise TreeError(f"`{path}` lies below something that is not a folder")
            node = below
        _check_name(name)
        if isinstance(entry, Folder):
            node.setdefault(name, {})
        elif name in node:
            raise TreeError(f"Two entries are called `{path}`")
        else:
            node[name] = entry
    return root


def _encode_nested(node: _Nested, children: dict[str, bytes]) -> bytes:
    files: list[tuple[str, File]] = []
    directories: list[tuple[str, Digest]] = []
    symlinks: list[tuple[str, Symlink]] = []
    for name, entry in node.items():
        if isinstance(entry, File):
            files.append((name, entry))
        elif isinstance(entry, Symlink):
            symlinks.append((name, entry))
        else:
            encoded = _encode_nested(entry, children)
            digest = Digest.of(encoded)
            children[digest.hash] = encoded
            directories.append((name, digest))
    files.sort(key=lambda item: item[0])
    return Directory(tuple(files), tuple(directories), tuple(symlinks)).encode()


def _walk(
    directory: Directory,
    prefix: str,
    children: Mapping[Digest, Directory],
    out: dict[str, Entry],
    visits: Iterator[int],
) -> None:
    if prefix.count("/") > _DEEPEST or next(visits, None) is None:
        raise TreeError("Tree is nested too deeply, or has too many folders")
    for name, file in directory.files:
        out[prefix + name] = file
    for name, link in directory.symlinks:
        out[prefix + name] = link
    for name, digest in directory.directories:
        child = children.get(digest)
        if child is None:
            raise TreeError(f"Tree lacks the folder `{prefix + name}`")
        if not (child.files or child.directories or child.symlinks):
            out[prefix + name] = Folder()
        _walk(child, f"{prefix}{name}/", children, out, visits)


def _check_name(name: str) -> None:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise TreeError(f"`{name}` is no file name")
