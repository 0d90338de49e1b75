"""A vendor's image, pinned: what the lock of one holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from forge.core.digest import Digest, Hash
from forge.core.image_name import ImageName


@dataclass(frozen=True, slots=True)
class ImageBlob:
    """A part of an image."""

    media_type: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class BaseImage:
    """An image as its registry had it when it was locked."""

    name: ImageName
    """Without a digest of its own."""
    digest: Hash | None = None
    """Of the index or manifest that the tag gave; None where neither registry nor declaration told it."""
    manifest: ImageBlob | None = None
    """Of the architecture; None, and no more is known, where the registry could not be asked."""
    config: ImageBlob | None = None
    layers: tuple[ImageBlob, ...] = ()
    """Lowest first."""

    def blobs(self) -> Iterator[ImageBlob]:
        """Yield configuration and layers, as far as they are known."""
        yield from (self.config, *self.layers) if self.config else self.layers


def read_base(table: Mapping[str, object]) -> BaseImage:
    """Read the part of a lock's table that is about the image; ValueError in words."""
    parts = {key: table.get(key, "") for key in ("registry", "repository", "tag", "digest")}
    texts = {key: value for key, value in parts.items() if isinstance(value, str)}
    if texts.keys() != parts.keys():
        raise ValueError("`registry`, `repository`, `tag` and `digest` must be texts")
    name = ImageName.of(texts["registry"], texts["repository"], texts["tag"])
    if not texts["digest"]:
        return BaseImage(name)
    digest = Hash(_hex(texts["digest"]))
    if "manifest" not in table:
        return BaseImage(name, digest)
    layers = table.get("layer", [])
    if not isinstance(layers, list) or not layers:
        raise ValueError("`layer` must be a list of tables")
    blobs = tuple(_read_blob(each, "layer") for each in layers)
    return BaseImage(
        name, digest, _read_blob(table["manifest"], "manifest"), _read_blob(table.get("config"), "config"), blobs
    )


def base_tables(image: BaseImage) -> tuple[dict[str, str], list[tuple[str, dict[str, str | int]]]]:
    """Take an image apart for a lock: keys of its head, and tables with their headers."""
    head = {"registry": image.name.registry, "repository": image.name.repository, "tag": image.name.tag}
    head["digest"] = f"sha256:{image.digest}" if image.digest else ""
    if image.manifest is None or image.config is None:
        return head, []
    tables = [("[manifest]", _blob_table(image.manifest)), ("[config]", _blob_table(image.config))]
    return head, [*tables, *(("[[layer]]", _blob_table(layer)) for layer in image.layers)]


def _blob_table(blob: ImageBlob) -> dict[str, str | int]:
    return {"media_type": blob.media_type, "digest": blob.digest.oci, "size": blob.digest.size}


def _read_blob(value: object, what: str) -> ImageBlob:
    table = value if isinstance(value, dict) else {}
    media_type, digest, size = (table.get(key) for key in ("media_type", "digest", "size"))
    if not isinstance(media_type, str) or not isinstance(digest, str) or type(size) is not int:
        raise ValueError(f"`{what}` needs `media_type`, `digest` and `size`")
    return ImageBlob(media_type, Digest(_hex(digest), size))


def _hex(digest: str) -> str:
    head, _, value = digest.partition(":")
    if head != "sha256":
        raise ValueError(f"`{digest}` is no SHA-256 digest")
    return value
