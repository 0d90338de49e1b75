"""Reads an OCI layout with the standard library alone: nothing here is shared with what made it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
TAR, TAR_GZIP = "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Member:
    """One entry of a layer."""

    path: str
    kind: str
    """`file`, `link`, `folder` or something that no image should have."""
    mode: int
    owner: tuple[int, int, str, str]
    modified: float
    value: str
    """SHA-256 of a file, target of a link."""
    size: int


@dataclass(frozen=True)
class Layer:
    """One layer, read whole."""

    media_type: str
    digest: str
    size: int
    diff_id: str
    members: tuple[Member, ...]
    needles: frozenset[bytes]
    """Those of the texts looked for that occur in it."""


@dataclass(frozen=True)
class Layout:
    """A layout's folder, with one image in it."""

    folder: Path

    @property
    def index(self) -> Any:
        """index.json."""
        return json.loads((self.folder / "index.json").read_bytes())

    @property
    def manifest(self) -> Any:
        """The image's manifest."""
        (entry,) = self.index["manifests"]
        return json.loads(self.blob(entry["digest"]).read_bytes())

    @property
    def config(self) -> Any:
        """The image's configuration."""
        return json.loads(self.blob(self.manifest["config"]["digest"]).read_bytes())

    @property
    def layers(self) -> list[dict[str, Any]]:
        """The layers' descriptors."""
        return list(self.manifest["layers"])

    def blob(self, digest: str) -> Path:
        """Name a blob's file."""
        algorithm, _, value = digest.partition(":")
        return self.folder / "blobs" / algorithm / value

    def read_layers(self, needles: frozenset[bytes] = frozenset()) -> list[Layer]:
        """Read every layer: its bytes, and its entries."""
        return [self._layer(descriptor, needles) for descriptor in self.layers]

    def _layer(self, descriptor: dict[str, Any], needles: frozenset[bytes]) -> Layer:
        path = self.blob(descriptor["digest"])
        with path.open("rb") as file:
            packed = descriptor["mediaType"] == TAR_GZIP
            reading = _Tap(gzip.GzipFile(fileobj=file) if packed else file, needles)
            with tarfile.open(fileobj=reading, mode="r|") as archive:
                members = tuple(_member(archive, info) for info in archive)
            while reading.read(1 << 20):
                pass
        return Layer(
            descriptor["mediaType"],
            f"sha256:{file_hash(path)}",
            path.stat().st_size,
            f"sha256:{reading.hash.hexdigest()}",
            members,
            frozenset(reading.found),
        )


class _Tap(io.RawIOBase):
    """Hands a stream on, hashes it, and looks for texts in it."""

    def __init__(self, stream: io.BufferedIOBase, needles: frozenset[bytes]) -> None:
        super().__init__()
        self.stream, self.needles = stream, needles
        self.hash, self.found = hashlib.sha256(), set[bytes]()
        self.tail = b""

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.hash.update(data)
        seen = self.tail + data
        self.found.update(needle for needle in self.needles - self.found if needle in seen)
        self.tail = seen[-200:]
        return data


def _member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    kind, value = "other", ""
    if info.isreg():
        kind = "file"
        content = archive.extractfile(info)
        assert content is not None
        value = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
    elif info.issym():
        kind, value = "link", info.linkname
    elif info.isdir():
        kind = "folder"
    owner = (info.uid, info.gid, info.uname, info.gname)
    return Member(info.name.strip("/"), kind, info.mode, owner, info.mtime, value, info.size)


def flatten(layers: list[Layer]) -> dict[str, Member]:
    """Lay layers over one another, as an engine does; they must not hide anything."""
    found: dict[str, Member] = {}
    for layer in layers:
        for member in layer.members:
            assert not member.path.rpartition("/")[2].startswith(".wh."), member.path
            found[member.path] = member
    found.pop("", None)
    found.pop(".", None)
    return found


def file_hash(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
