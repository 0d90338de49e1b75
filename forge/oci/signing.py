"""Signatures in a registry: put beside an image by whoever pushes it, found there by whoever trusts a key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.tool import Json
from forge.net.connection import Missing, Unavailable
from forge.oci import document, mediatype, signature
from forge.oci.check import Check
from forge.oci.manifest import Descriptor
from forge.oci.push import Pusher
from forge.oci.referrer import Referrer
from forge.oci.registry import Registry
from forge.oci.signature import Claim
from forge.oci.signing_key import PublicKey, SigningKey

MOST: Final = 100
"""Signatures of an image that are looked at: whoever may push may add some."""


class _NoSignatures(Unavailable):
    """Something else lies where signatures would."""


def push_signature(pusher: Pusher, repository: str, subject: Digest, name: str, key: SigningKey) -> None:
    """Sign an image in the older form, keeping what others signed; MaterialError when that fails.

    Two who do that at once may lose one of their signatures.
    """
    tag = signature.tag_of(subject)
    data = signature.payload(name, subject)
    layer = signature.signed_layer(data, key).document()
    try:
        listed = _listed(pusher.registry, repository, tag)
        if layer in listed:
            return
        layers = [*listed, layer]
        hashes = [each.get("digest") for each in layers if isinstance(each, dict)]
        about = {"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": hashes}}
        config = pusher.store.put(document.encode(about))
        pusher.blobs(repository, [pusher.store.put(data), config])
        manifest = {
            "schemaVersion": 2,
            "mediaType": mediatype.MANIFEST,
            "config": Descriptor(mediatype.CONFIG, config).document(),
            "layers": layers,
        }
        pusher.tagged(repository, tag, mediatype.MANIFEST, document.encode(manifest))
    except Unavailable as error:
        raise MaterialError(f"The image is in `{repository}` at {pusher.registry}, unsigned: {error}") from error


def signed(store: BlobStore, subject: Descriptor, said: bytes, predicate: str, key: SigningKey) -> Referrer:
    """Sign a statement about an image, to be pushed as a referrer."""
    digest = store.put(signature.bundle(said, key))
    about = {signature.CONTENT: "dsse-envelope", signature.PREDICATE_TYPE: predicate}
    return Referrer(subject, signature.BUNDLE, digest, f"sha256-{digest.hash}.sigstore.json", about)


def claims(registry: Registry, repository: str, subject: str, key: PublicKey) -> list[Claim]:
    """Find what a key signed of an image, in either form; Unavailable where the registry cannot be asked.

    What is no signature, of another key or about another image counts for nothing: it may be anybody's.
    """
    found = [*_bundles(registry, repository, subject, key), *_payloads(registry, repository, subject, key)]
    return list(dict.fromkeys(each for each in found if each.digest == subject))


def _listed(registry: Registry, repository: str, tag: str) -> Sequence[Json]:
    """List the signatures under a tag; Unavailable where something else lies there."""
    try:
        data = registry.read(repository, tag).data
    except Missing:
        return ()
    check = Check(tag)
    layers = check.array(check.document(data).get("layers"), "layers")
    if check.faults:
        raise _NoSignatures(f"What lies under `{tag}` holds no signatures")
    return layers


def _payloads(registry: Registry, repository: str, subject: str, key: PublicKey) -> Iterator[Claim]:
    try:
        listed = _listed(registry, repository, f"{subject.replace(':', '-')}.sig")
    except _NoSignatures:
        return
    for each in listed[:MOST]:
        layer = Descriptor.read(Check(""), each, "layer")
        if layer is not None and layer.media_type == signature.SIMPLE_SIGNING:
            data = _blob(registry, repository, layer.digest)
            claim = signature.claim_of_payload(layer, data, key) if data is not None else None
            if claim is not None:
                yield claim


def _bundles(registry: Registry, repository: str, subject: str, key: PublicKey) -> Iterator[Claim]:
    check = Check(subject)
    try:
        listed = check.array(check.document(registry.referrers(repository, subject)).get("manifests"), "manifests")
    except Missing:
        return
    bundles = [each for each in listed if isinstance(each, dict) and each.get("artifactType") == signature.BUNDLE]
    for each in bundles[:MOST]:
        digest = check.text(each.get("digest"), "digest")
        try:
            data = registry.read(repository, digest).data if digest.startswith("sha256:") else b"{}"
        except Missing:
            continue
        for part in check.array(check.document(data).get("layers"), "layers")[:1]:
            layer = Descriptor.read(check, part, "layer")
            content = _blob(registry, repository, layer.digest) if layer is not None else None
            if content is not None:
                yield from signature.claims_of_bundle(content, key)


def _blob(registry: Registry, repository: str, digest: Digest) -> bytes | None:
    if digest.size > document.LIMIT:
        return None
    try:
        return registry.blob(repository, digest)
    except Missing:
        return None
