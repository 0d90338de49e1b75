"""Images made with the standard library alone, and wrong in any way that a test wants."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from forge.core.digest import Digest
from forge.core.tree import Entry, File, Tree
from forge.oci.check import ImageError
from forge.oci.validate import validate
from tests.fakes.store import MemoryStore

Document = dict[str, Any]
Edit = Callable[[Document], object]

_TYPE = "application/vnd.oci.image."


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A header, a file's unless `type` says otherwise, and its content."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def folder(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A folder's header."""
    return member(name, type=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    """A link's header."""
    return member(name, type=kind, linkname=target, mode=0o777)


def tar(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """An archive in the order given."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


SOUND = tar([folder("a"), member("a/f", b"content"), link("b", "a")])


@dataclass
class Handmade:
    """An image over tars; each step can be altered."""

    tars: list[bytes] = field(default_factory=lambda: [SOUND, tar([member("z", b"z" * 600)])])
    compress: Callable[[bytes], bytes] = lambda data: gzip.compress(data, mtime=0)
    layer_type: str = _TYPE + "layer.v1.tar+gzip"
    config: Edit = lambda document: None
    manifest: Edit = lambda document: None
    index: Edit = lambda document: None
    mark: bytes = b'{"imageLayoutVersion":"1.0.0"}'
    extra: dict[str, bytes] = field(default_factory=dict)
    """Further files of the layout."""
    store: MemoryStore = field(default_factory=MemoryStore)

    def build(self) -> Tree:
        """Write everything into the store."""
        files = {"oci-layout": self.mark}
        layers = [self._blob(files, self.compress(data), self.layer_type) for data in self.tars]
        config: Document = {
            **{"architecture": "amd64", "os": "linux", "config": {"Env": ["A=b"]}},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + _hash(data) for data in self.tars]},
            "history": [{"created_by": "x"} for _ in self.tars] + [{"created_by": "y", "empty_layer": True}],
        }
        self.config(config)
        manifest: Document = {"schemaVersion": 2, "mediaType": _TYPE + "manifest.v1+json", "layers": layers}
        manifest["config"] = self._blob(files, json.dumps(config).encode(), _TYPE + "config.v1+json")
        self.manifest(manifest)
        named = self._blob(files, json.dumps(manifest).encode(), _TYPE + "manifest.v1+json")
        named["platform"] = {"architecture": "amd64", "os": "linux"}
        index: Document = {"schemaVersion": 2, "mediaType": _TYPE + "index.v1+json", "manifests": [named]}
        self.index(index)
        files["index.json"] = json.dumps(index).encode()
        files |= self.extra
        entries: dict[str, Entry] = {path: File(self.store.put(data)) for path, data in files.items()}
        return Tree.of(entries)

    def nest(self, index: Document, depth: int) -> None:
        """Put `index`'s manifests `depth` further indexes down."""
        for _ in range(depth):
            data = json.dumps(index).encode()
            index["manifests"] = [self._blob(self.extra, data, _TYPE + "index.v1+json")]

    def _blob(self, files: dict[str, bytes], data: bytes, media_type: str) -> Document:
        digest = Digest.of(data)
        files[f"blobs/sha256/{digest.hash}"] = data
        return {"mediaType": media_type, "digest": digest.oci, "size": digest.size}


def faults(layout: Tree, store: MemoryStore, **kwargs: Any) -> str:
    """What the validator says, empty when nothing."""
    try:
        validate(layout, store, **kwargs)
    except ImageError as error:
        return str(error)
    return ""


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
