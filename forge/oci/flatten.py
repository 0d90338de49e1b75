"""Layers laid over one another: the file system that a container sees.

https://github.com/opencontainers/image-spec, layer.md, "Applying Changesets" and "Whiteouts"
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.tree import Entry, File, Folder, Symlink, Tree
from forge.oci import mediatype
from forge.oci.check import ImageError
from forge.oci.reader import CHUNK, Damaged, LayerReader, read_members
from forge.oci.scan import OPAQUE, WHITEOUT
from forge.oci.summary import LayerSummary, summarize

_Node = dict[str, "File | Symlink | _Node"]


def flatten(layout: Tree, store: BlobStore) -> Tree:
    """Apply the layers of the layout's one image in order; files are put into `store`.

    A link in a lower layer is never followed: a path below it replaces the link by a folder, as laying unpacked
    layers over one another does. Owners, times and setuid bits are no content and are dropped.
    ImageError when a layer is malformed or holds what a tree cannot, such as devices.
    """
    root: _Node = {}
    for layer in summarize(layout, store).layers:
        try:
            with store.open(layer.digest) as blob:
                _overlay(root, _read(layer, blob, store, root))
        except KeyError:
            raise MaterialError(f"The store lacks the layer {layer.digest.oci}") from None
        except (tarfile.TarError, Damaged, ValueError, OverflowError, RecursionError) as error:
            raise ImageError(f"The tar is malformed: {error}", place=f"layer {layer.digest.short}") from error
    try:
        return Tree.of(dict(_flat(root, "")))
    except (ValueError, RecursionError) as error:
        raise ImageError(f"The file system cannot be a tree: {error}", place="image") from error


@dataclass(slots=True)
class _Layer:
    place: str
    added: _Node = field(default_factory=dict)
    hidden: list[list[str]] = field(default_factory=list)
    opaque: list[list[str]] = field(default_factory=list)
    links: list[tuple[list[str], list[str]]] = field(default_factory=list)

    def put(self, path: list[str], entry: File | Symlink | _Node) -> None:
        """Add an entry; a later one of the same name replaces it, a folder's content stays."""
        node = self.added
        for part in path[:-1]:
            below = node.setdefault(part, {})
            if not isinstance(below, dict):
                raise ImageError(f"`{'/'.join(path)}` lies below something that is not a folder", place=self.place)
            node = below
        if not (isinstance(entry, dict) and isinstance(node.get(path[-1]), dict)):
            node[path[-1]] = entry


def _read(summary: LayerSummary, blob: BinaryIO, store: BlobStore, lower: _Node) -> _Layer:
    layer = _Layer(f"layer {summary.digest.short}")
    reader = LayerReader(blob, mediatype.LAYERS[summary.media_type])
    for member in read_members(reader):
        path = _parse(member.name, layer)
        if path:
            _add(layer, path, member, reader, store)
    # Hard links last: what they lead to may come after them, or be in a lower layer.
    for path, target in layer.links:
        found = _find(layer.added, target) or _find(lower, target)
        if found is None or isinstance(found, dict):
            raise ImageError(f"The hard link `{'/'.join(path)}` leads to no file", place=layer.place)
        layer.put(path, found)
    return layer


def _parse(name: str, layer: _Layer) -> list[str]:
    path = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in path or name.startswith("/"):
        raise ImageError(f"`{name[:200]!a}` leads out of the image", place=layer.place)
    return path


def _add(layer: _Layer, path: list[str], member: tarfile.TarInfo, reader: LayerReader, store: BlobStore) -> None:
    name = path[-1]
    if name == OPAQUE:
        layer.opaque.append(path[:-1])
    elif name.startswith(WHITEOUT):
        layer.hidden.append([*path[:-1], name.removeprefix(WHITEOUT)])
    elif member.isdir():
        layer.put(path, {})
    elif member.issym():
        layer.put(path, Symlink(member.linkname))
    elif member.islnk():
        layer.links.append((path, _parse(member.linkname.removeprefix("/"), layer)))
    elif member.isreg() and not member.issparse():
        reader.seek(member.offset_data)
        layer.put(path, File(_keep(reader, member.size, store), bool(member.mode & 0o100)))
    else:
        raise ImageError(f"`{'/'.join(path)}` is neither file, folder nor link", place=layer.place)


def _keep(reader: LayerReader, size: int, store: BlobStore) -> Digest:
    if size <= CHUNK:
        data = _exactly(reader, size)
        digest = Digest.of(data)
        return digest if store.contains(digest) else store.put(data)
    with store.writer() as writer:
        for start in range(0, size, CHUNK):
            writer.write(_exactly(reader, min(CHUNK, size - start)))
        return writer.commit()


def _exactly(reader: LayerReader, size: int) -> bytes:
    data = reader.read(size)
    if len(data) != size:
        raise tarfile.ReadError("the archive ends within a file")
    return data


def _overlay(lower: _Node, layer: _Layer) -> None:
    # Whiteouts concern lower layers only, wherever in the archive they stand.
    for path in layer.opaque:
        folder = _find(lower, path)
        if isinstance(folder, dict):
            folder.clear()
    for path in layer.hidden:
        parent = _find(lower, path[:-1])
        if isinstance(parent, dict):
            parent.pop(path[-1], None)
    _merge(lower, layer.added)


def _merge(lower: _Node, upper: _Node) -> None:
    for name, entry in upper.items():
        below = lower.get(name)
        if isinstance(below, dict) and isinstance(entry, dict):
            _merge(below, entry)
        else:
            lower[name] = entry


def _find(root: _Node, path: list[str]) -> File | Symlink | _Node | None:
    node: File | Symlink | _Node | None = root
    for part in path:
        if not isinstance(node, dict):
            return None
        node = node.get(part)
    return node


def _flat(node: _Node, prefix: str) -> Iterator[tuple[str, Entry]]:
    for name, entry in node.items():
        if not isinstance(entry, dict):
            yield prefix + name, entry
        elif entry:
            yield from _flat(entry, f"{prefix}{name}/")
        else:
            yield prefix + name, Folder()
