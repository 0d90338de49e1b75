"""Referrers: documents about an image, which a registry keeps beside it and lists.

https://github.com/opencontainers/image-spec, manifest.md, "Guidelines for Artifact Usage". A registry that has no list
of its own (`/referrers/` is not there) gets one as an index under the tag `sha256-…` of the image, as the distribution
specification's "Referrers Tag Schema" wants it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.tool import Json
from forge.net.connection import Missing, Unavailable
from forge.oci import document, mediatype
from forge.oci.manifest import Descriptor
from forge.oci.push import Pusher

EMPTY: Final = "application/vnd.oci.empty.v1+json"
"""Type of the configuration of what has none, `{}`."""
SBOM: Final = "application/vnd.cyclonedx+json"
PROVENANCE: Final = "application/vnd.in-toto+json"

_TITLE: Final = "org.opencontainers.image.title"
_NOTHING: Final = b"{}"


@dataclass(frozen=True, slots=True)
class Referrer:
    """A document about an image."""

    subject: Descriptor
    kind: str
    """Media type of the document, and the artifact's type."""
    digest: Digest
    title: str
    """The name that tools save it under."""
    annotations: Mapping[str, str] = field(default_factory=dict)

    def manifest(self) -> bytes:
        """Write the manifest that ties it to its subject; the same bytes every time."""
        layer = Descriptor(self.kind, self.digest, annotations={_TITLE: self.title})
        subject = Descriptor(self.subject.media_type, self.subject.digest)
        found: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": mediatype.MANIFEST,
            "artifactType": self.kind,
            "config": Descriptor(EMPTY, Digest.of(_NOTHING)).document(),
            "layers": [layer.document()],
            "subject": subject.document(),
        }
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        return document.encode(found)


def push_referrers(pusher: Pusher, repository: str, referrers: Sequence[Referrer]) -> None:
    """Bring documents beside the images that they are about, and have them listed; MaterialError when that fails."""
    try:
        pusher.blobs(repository, [pusher.store.put(_NOTHING), *(each.digest for each in referrers)])
        waiting: dict[str, list[dict[str, object]]] = {}
        for each in referrers:
            data = each.manifest()
            subject = each.subject.digest.oci
            if not pusher.document(repository, mediatype.MANIFEST, data):
                waiting.setdefault(subject, []).append(_entry(each, data))
        for subject, entries in waiting.items():
            if not _lists_itself(pusher, repository, subject):
                _list(pusher, repository, subject, entries)
    except Unavailable as error:
        raise MaterialError(
            f"The image is in `{repository}` at {pusher.registry}, what is known about it is not: {error}",
            hint="Push with `--noreferrers` where a registry takes images alone",
        ) from error


def _entry(referrer: Referrer, manifest: bytes) -> dict[str, object]:
    found = Descriptor(mediatype.MANIFEST, Digest.of(manifest), annotations=referrer.annotations).document()
    return {**found, "artifactType": referrer.kind}


def _lists_itself(pusher: Pusher, repository: str, subject: str) -> bool:
    try:
        pusher.uploader.ask("GET", f"{repository}/referrers/{subject}", {"Accept": mediatype.INDEX})
    except Missing:
        return False
    return True


def _list(pusher: Pusher, repository: str, subject: str, entries: Sequence[Mapping[str, object]]) -> None:
    """Add entries to the index under the subject's tag. Two who do that at once may lose one of their entries."""
    tag = subject.replace(":", "-")
    try:
        found = document.decode(pusher.registry.read(repository, tag).data)
    except Missing:
        found = {}
    except ValueError as error:
        raise Unavailable(f"What lies under `{tag}` is no index: {error}") from error
    listed = found.get("manifests", []) if isinstance(found, dict) else []
    if not isinstance(listed, list):
        raise Unavailable(f"What lies under `{tag}` is no index")
    known = {each.get("digest") for each in listed if isinstance(each, dict)}
    fresh: list[Json | Mapping[str, object]] = [each for each in entries if each["digest"] not in known]
    if fresh:
        value = {"schemaVersion": 2, "mediaType": mediatype.INDEX, "manifests": [*listed, *fresh]}
        pusher.tagged(repository, tag, mediatype.INDEX, document.encode(value))
