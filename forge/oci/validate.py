"""Judge an image by its bytes alone.

Shares no hashing, tar or gzip code with the assembler: a mistake there must not vouch for itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.tree import Tree
from forge.oci import mediatype
from forge.oci.check import Check, ImageError
from forge.oci.manifest import Descriptor
from forge.oci.scan import LayerFacts, scan
from forge.oci.summary import Contents, ImageSummary, single


def validate(
    layout: Tree,
    store: BlobStore,
    *,
    foreign: Collection[Digest] = (),
    trusted: Collection[Digest] = (),
) -> ImageSummary:
    """Check the one image of a layout; ImageError with all its faults."""
    return single(validate_all(layout, store, foreign=foreign, trusted=trusted))


def validate_all(
    layout: Tree,
    store: BlobStore,
    *,
    foreign: Collection[Digest] = (),
    trusted: Collection[Digest] = (),
) -> tuple[ImageSummary, ...]:
    """Check every image of a layout, reading each blob once.

    `foreign` layers come from elsewhere: owners, order and modes are theirs. Of `trusted` layers, whose content
    `validate_layer` has seen before, the blob alone is hashed.
    """
    check = Check("image")
    contents = Contents.read(check, layout, store)
    for hash_, digest in contents.blobs.items():
        if hash_ not in contents.referenced:
            check.at("layout").fault(f"Nothing refers to {digest.oci}")
    known = contents.layers & _layers(trusted)
    facts = _scan_all(check, store, sorted(contents.layers - known, key=_order), foreign)
    for seen in sorted(known, key=_order):
        with store.open(seen.digest) as blob:
            hashed = hashlib.sha256()
            while chunk := blob.read(1 << 20):
                hashed.update(chunk)
            if hashed.hexdigest() != seen.digest.hash:
                check.at(f"layer {seen.digest.short}").fault(f"The layer's bytes are not {seen.digest.oci}")
    for image in contents.images:
        for layer in image.layers:
            found = facts.get(layer.digest)
            if found and found.diff_id != layer.diff_id:
                place = check.at(f"layer {layer.digest.short}")
                place.fault(f"Uncompressed it is {found.diff_id}, the config says {layer.diff_id}")
    check.finish(ImageError)
    return tuple(contents.images)


def validate_layer(media_type: str, digest: Digest, diff_id: str, store: BlobStore) -> None:
    """Check one layer's bytes and every entry in it; ImageError with all its faults."""
    check = Check("image")
    found = _scan_all(check, store, [Descriptor(media_type, digest)], ())[digest]
    if found.diff_id != diff_id:
        check.at(f"layer {digest.short}").fault(f"Uncompressed it is {found.diff_id}, not {diff_id}")
    check.finish(ImageError)


def _layers(digests: Collection[Digest]) -> set[Descriptor]:
    return {Descriptor(media_type, digest) for digest in digests for media_type in mediatype.LAYERS}


def _order(layer: Descriptor) -> tuple[Digest, str]:
    return layer.digest, layer.media_type


def _scan_all(
    check: Check, store: BlobStore, layers: list[Descriptor], foreign: Collection[Digest]
) -> dict[Digest, LayerFacts]:
    running: list[tuple[Descriptor, Check, Future[LayerFacts]]] = []
    workers = min(4, os.cpu_count() or 1)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(workers, thread_name_prefix="validate"))
        for layer in layers:
            if layer.media_type not in mediatype.LAYERS:
                continue
            # A store need not be usable from several threads; what it opened is.
            try:
                blob = stack.enter_context(store.open(layer.digest))
            except (KeyError, MaterialError, OSError) as error:
                check.at(f"layer {layer.digest.short}").fault(f"The layer cannot be read: {error}")
                continue
            own = Check(f"layer {layer.digest.short}")
            compression = mediatype.LAYERS[layer.media_type]
            future = pool.submit(scan, own, blob, compression, foreign=layer.digest in foreign)
            running.append((layer, own, future))
        found = {layer.digest: _judge(layer, own, future.result()) for layer, own, future in running}
    for _, own, _ in running:
        for fault in own.faults:
            check.at(own.place).fault(fault.text, fault.hint)
    return found


def _judge(layer: Descriptor, check: Check, facts: LayerFacts) -> LayerFacts:
    if facts.blob_size != layer.digest.size:
        check.fault(f"The layer has {facts.blob_size} bytes, not {layer.digest.size}")
    if facts.blob_hash != layer.digest.hash:
        check.fault(f"The layer's bytes are sha256:{facts.blob_hash}, not {layer.digest.oci}")
    return facts
