"""The parts of a pinned image, as what is to be fetched."""

from __future__ import annotations

from forge.core.base_image import BaseImage
from forge.core.digest import Digest, Pin
from forge.core.lock import Material


def image_document(image: BaseImage, digest: Pin) -> Material:
    """Name an index or manifest of an image as what is to be fetched."""
    known = image.manifest.digest if image.manifest is not None else None
    return _part(image, "manifests", known if known is not None and known.hash == digest.hash else digest)


def image_blob(image: BaseImage, digest: Digest) -> Material:
    """Name a configuration or layer of an image as what is to be fetched."""
    return _part(image, "blobs", digest)


def _part(image: BaseImage, kind: str, pin: Pin) -> Material:
    name = image.name
    path = f"{name.repository}/{kind}/sha256:{pin.hash}"
    file = f"{name.repository.rpartition('/')[2]}-{pin.short}"
    return Material(f"{name.registry}/{name.repository}", name.tag, file, pin, name.registry, path)
