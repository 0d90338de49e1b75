"""The tool `pull`: an image of a registry becomes an OCI layout, verified below one digest.

params   registry, repository, tag   its name
         arch      architecture
inputs   pinned    the index or manifest, whose digest is known
         others    parts that are there already; their names do not matter
outputs  layout
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from forge.core.base_image import BaseImage
from forge.core.digest import Digest, Hash
from forge.core.errors import ActionFailed
from forge.core.image_material import image_blob, image_document
from forge.core.image_name import ImageName
from forge.core.lock import Material
from forge.core.tool import Content, FileContent, ToolRequest, TreeContent
from forge.oci import layout
from forge.oci.manifest import Descriptor, Index
from forge.oci.selection import check_machine, parts, select
from forge.oci.validate import validate

PULL_VERSION: Final = "1"
"""Goes into keys. Count up when the same request would give another layout."""

FetchAll = Callable[[Sequence[Material], Callable[[int, int], None]], Sequence[Digest]]
"""Brings materials into the store, telling bytes done and bytes in all; their digests, in their order."""


@dataclass(frozen=True, slots=True)
class Pull:
    """Brings what is missing of an image, several blobs at a time, each verified by its digest."""

    fetch: FetchAll

    def __call__(self, request: ToolRequest) -> Mapping[str, Content]:
        """Make the layout; ImageError when a document lies, MaterialError when a part cannot be had."""
        params = {key: str(request.params.get(key) or "") for key in ("registry", "repository", "tag", "arch")}
        image = BaseImage(ImageName.of(params["registry"], params["repository"], params["tag"]))
        pinned, arch, place = request.inputs.get("pinned"), params["arch"], image.name.tagged
        if not isinstance(pinned, FileContent):
            raise ActionFailed("`pull` needs the file `pinned`")
        data = request.store.read(pinned.digest)
        named = select(data, arch, place)
        digest = pinned.digest
        if named.digest != digest:
            # How long it is says the index, which is not believed further than the hash.
            (digest,) = self.fetch([image_document(image, Hash(named.digest.hash))], lambda done, total: None)
            data = request.store.read(digest)
        config, layers = parts(data, place)
        blobs = [blob.digest for blob in (config, *layers)]
        self.fetch([image_blob(image, digest) for digest in blobs], request.progress)
        machine = check_machine(request.store.read(config.digest), arch, place)
        index = Index((Descriptor(named.media_type, digest, machine),))
        tree = layout.compose(request.store, index, [digest, *blobs])
        validate(tree, request.store, foreign=frozenset(blobs))
        request.store.put(tree.encoded)
        return {"layout": TreeContent(tree.digest, tree.root)}
