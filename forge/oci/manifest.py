"""Manifests and indexes: what refers to an image's blobs.

https://github.com/opencontainers/image-spec, manifest.md, image-index.md, descriptor.md
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from forge.core.digest import Digest
from forge.core.tool import Json
from forge.oci import document, mediatype
from forge.oci.check import Check


@dataclass(frozen=True, slots=True)
class Machine:
    """What an image runs on, the specification's `platform`."""

    architecture: str
    os: str
    variant: str = ""

    def document(self) -> dict[str, str]:
        """Make its JSON; `variant` only where there is one."""
        found = {"architecture": self.architecture, "os": self.os}
        return {**found, "variant": self.variant} if self.variant else found

    def fits(self, other: Machine) -> bool:
        """Compare, a missing variant being any: tools leave it out in one place and not in the other."""
        same = (self.architecture, self.os) == (other.architecture, other.os)
        return same and (not self.variant or not other.variant or self.variant == other.variant)

    @classmethod
    def read(cls, check: Check, value: Mapping[str, Json], what: str) -> Machine:
        """Read the three fields from a platform or a config."""
        found = cls(
            check.text(value.get("architecture"), f"{what}.architecture"),
            check.text(value.get("os"), f"{what}.os"),
            check.text(value.get("variant", ""), f"{what}.variant"),
        )
        if not found.architecture or not found.os:
            check.fault(f"`{what}` does not say architecture and operating system")
        return found


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to a blob."""

    media_type: str
    digest: Digest
    machine: Machine | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    def document(self) -> dict[str, object]:
        """Make its JSON."""
        digest = self.digest
        found: dict[str, object] = {"mediaType": self.media_type, "digest": digest.oci, "size": digest.size}
        if self.machine:
            found["platform"] = self.machine.document()
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        return found

    @classmethod
    def read(cls, check: Check, value: Json, what: str) -> Descriptor | None:
        """Read one; None when it refers to nothing."""
        found = check.object(value, what)
        media_type = check.text(found.get("mediaType"), f"{what}.mediaType")
        digest = check.digest(found.get("digest"), check.number(found.get("size"), f"{what}.size"), f"{what}.digest")
        annotations = check.pairs(found.get("annotations") or {}, f"{what}.annotations")
        platform = found.get("platform")
        machine = None
        if platform is not None:
            machine = Machine.read(check, check.object(platform, f"{what}.platform"), f"{what}.platform")
        return cls(media_type, digest, machine, annotations) if digest else None


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one machine."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Write it canonically."""
        found: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": mediatype.MANIFEST,
            "config": self.config.document(),
            "layers": [layer.document() for layer in self.layers],
        }
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        return document.encode(found)

    @classmethod
    def decode(cls, check: Check, encoded: bytes) -> Manifest | None:
        """Read one; None when its config cannot be known."""
        found = check.document(encoded)
        _check_head(check, found, mediatype.MANIFESTS)
        config = Descriptor.read(check, found.get("config"), "config")
        layers = _read_list(check, found, "layers")
        annotations = check.pairs(found.get("annotations") or {}, "annotations")
        if config and config.media_type not in mediatype.CONFIGS:
            check.fault(f"`config.mediaType` is `{config.media_type}`, not an image's config")
        for number, layer in enumerate(layers):
            if layer.media_type not in mediatype.LAYERS:
                check.fault(f"`layers[{number}].mediaType` is `{layer.media_type}`, which is not supported")
        if not layers:
            check.fault("The image has no layer")
        return cls(config, layers, annotations) if config else None


@dataclass(frozen=True, slots=True)
class Index:
    """Several images, or other indexes, in one document."""

    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Write it canonically."""
        found: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": mediatype.INDEX,
            "manifests": [manifest.document() for manifest in self.manifests],
        }
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        return document.encode(found)

    @classmethod
    def decode(cls, check: Check, encoded: bytes) -> Index:
        """Read one."""
        found = check.document(encoded)
        # Older tools leave out the media type of a layout's index.json.
        _check_head(check, found, mediatype.INDEXES, default=mediatype.INDEX)
        annotations = check.pairs(found.get("annotations") or {}, "annotations")
        manifests = _read_list(check, found, "manifests")
        for number, one in enumerate(manifests):
            if one.media_type not in mediatype.MANIFESTS | mediatype.INDEXES:
                check.fault(f"`manifests[{number}].mediaType` is `{one.media_type}`, which is not supported")
        return cls(manifests, annotations)


def _read_list(check: Check, found: Mapping[str, Json], key: str) -> tuple[Descriptor, ...]:
    values = enumerate(check.array(found.get(key), key))
    read = [Descriptor.read(check, value, f"{key}[{number}]") for number, value in values]
    return tuple(one for one in read if one)


def _check_head(check: Check, found: Mapping[str, Json], media_types: Collection[str], *, default: str = "") -> None:
    if found.get("schemaVersion") != 2:
        check.fault("`schemaVersion` is not 2")
    given = found.get("mediaType", default)
    if given not in media_types:
        check.fault(f"`mediaType` is `{given}`, not `{max(media_types)}`")
    if {"manifests", "layers"} <= found.keys():
        # Some readers would take it for an index, others for a manifest: CVE-2021-41190.
        check.fault("The document is a manifest and an index at once")
