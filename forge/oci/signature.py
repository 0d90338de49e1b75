"""Signatures of images, in the two forms that `cosign verify --key` takes.

The older form, cosign 1 and later, and podman's, skopeo's and Kyverno's: a payload in Red Hat's simple signing format,
in a manifest under the tag `sha256-….sig`, the signature in an annotation.
https://github.com/sigstore/cosign, specs/SIGNATURE_SPEC.md

The newer one, cosign 3 and later: an in-toto statement in a DSSE envelope in a sigstore bundle, as a referrer.
https://github.com/sigstore/cosign, specs/BUNDLE_SPEC.md; https://github.com/secure-systems-lab/dsse, protocol.md;
https://github.com/sigstore/protobuf-specs, sigstore_bundle.proto

Nothing here has a time or chance in it: the same image and key are the same bytes.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from forge.core.digest import Digest
from forge.core.tool import Json
from forge.oci import document
from forge.oci.check import Check
from forge.oci.manifest import Descriptor
from forge.oci.signing_key import PublicKey, SigningKey

SIMPLE_SIGNING: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE: Final = "dev.cosignproject.cosign/signature"
"""The annotation with the signature over a payload."""
BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
SIGNED: Final = "https://sigstore.dev/cosign/sign/v1"
"""Predicate of a statement that says nothing but that its subject is signed."""
PREDICATE_TYPE: Final = "dev.sigstore.bundle.predicateType"
CONTENT: Final = "dev.sigstore.bundle.content"

_KIND: Final = "cosign container image signature"
_IN_TOTO: Final = "application/vnd.in-toto+json"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a signature that holds says."""

    digest: str
    """Of the image, `sha256:…`."""
    predicate: str
    """What is said of it."""


def tag_of(subject: Digest) -> str:
    """Name the tag of the older form's manifest."""
    return f"sha256-{subject.hash}.sig"


def payload(name: str, subject: Digest) -> bytes:
    """Write what the older form signs; `name` is registry and repository, which containers' policies look at."""
    critical = {
        "identity": {"docker-reference": name},
        "image": {"docker-manifest-digest": subject.oci},
        "type": _KIND,
    }
    return document.encode({"critical": critical, "optional": None})


def signed_layer(data: bytes, key: SigningKey) -> Descriptor:
    """Describe a payload with its signature."""
    signature = base64.b64encode(key.sign(data)).decode()
    return Descriptor(SIMPLE_SIGNING, Digest.of(data), annotations={SIGNATURE: signature})


def statement(subject: Digest) -> bytes:
    """Write what the newer form signs of an image of which nothing else is said."""
    subjects = [{"digest": {"sha256": subject.hash}}]
    return document.encode({"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": SIGNED, "predicate": {}})


def bundle(said: bytes, key: SigningKey) -> bytes:
    """Sign an in-toto statement."""
    return document.encode(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": key.public.hint}},
            "dsseEnvelope": {
                "payload": base64.b64encode(said).decode(),
                "payloadType": _IN_TOTO,
                "signatures": [{"sig": base64.b64encode(key.sign(_encoded(said))).decode()}],
            },
        }
    )


def claim_of_payload(layer: Descriptor, data: bytes, key: PublicKey) -> Claim | None:
    """Read what a payload claims; None where the signature is not of this key, or it claims nothing of an image."""
    if not key.verifies(_decoded(layer.annotations.get(SIGNATURE, "")), data):
        return None
    check = Check("payload")
    critical = check.object(check.document(data).get("critical"), "critical")
    digest = check.text(check.object(critical.get("image"), "image").get("docker-manifest-digest"), "digest")
    if check.faults or critical.get("type") != _KIND:
        return None
    return Claim(digest, SIGNED)


def claims_of_bundle(data: bytes, key: PublicKey) -> list[Claim]:
    """Read what a bundle claims; nothing where it is not signed by this key, or is none of a statement."""
    check = Check("bundle")
    envelope = check.object(check.document(data).get("dsseEnvelope"), "dsseEnvelope")
    signatures = check.array(envelope.get("signatures"), "signatures")
    said = _decoded(check.text(envelope.get("payload"), "payload"))
    if check.faults or envelope.get("payloadType") != _IN_TOTO:
        return []
    given = [_decoded(check.text(check.object(each, "signature").get("sig"), "sig")) for each in signatures]
    if not any(key.verifies(each, _encoded(said)) for each in given):
        return []
    table = check.document(said)
    predicate = check.text(table.get("predicateType"), "predicateType")
    digests = [_digest(check, each) for each in check.array(table.get("subject"), "subject")]
    if check.faults or table.get("_type") != STATEMENT_TYPE:
        return []
    return [Claim(f"sha256:{each}", predicate) for each in digests]


def _digest(check: Check, subject: Json) -> str:
    digests = check.object(check.object(subject, "subject").get("digest"), "digest")
    return check.text(digests.get("sha256"), "sha256")


def _encoded(said: bytes) -> bytes:
    """DSSE's pre-authentication encoding: type and content, each with its length."""
    return b"DSSEv1 %d %s %d %s" % (len(_IN_TOTO), _IN_TOTO.encode(), len(said), said)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
