"""Signatures: what is signed, that others can check it, and what a stranger's additions change: nothing."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.oci import mediatype, signature
from forge.oci.referrer import push_referrers
from forge.oci.signature import BUNDLE, SIGNED, SIMPLE_SIGNING, Claim
from forge.oci.signing import claims, push_signature, signed
from forge.oci.signing_key import PublicKey, SigningKey
from tests.fakes.registry import open_registry, reply
from tests.oci.test_push import NAME, Here

SEALED = b"""\
-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----
eyJrZGYiOnsibmFtZSI6InNjcnlwdCIsInBhcmFtcyI6eyJOIjo2NTUzNiwiciI6
OCwicCI6MX0sInNhbHQiOiJpTFFGaUxzRGFrVUxob0NGcFRXUllIMXVvK3lCLyt0
aXpsNVh2ajBaUGNRPSJ9LCJjaXBoZXIiOnsibmFtZSI6Im5hY2wvc2VjcmV0Ym94
Iiwibm9uY2UiOiJaUEJMMHI2NUZ2bmROK2lmZzNCL21GdnFWVTZqbkcyUiJ9LCJj
aXBoZXJ0ZXh0IjoiZENaMGRqdVVVUDk2ak9qQmJ0cEx0MDJpN01CZkwwNlRPajJ2
bitYTGRSTDdaOVVZVUpEM004ZmxTN0RtQm5rOWpVSFBjYTRkelp4RHI2bUFBL2R2
bW5vcm1CZEVPeUV5eWtNMEpDbmdGK21WTlJYRUVpV3RJNnNWUjYzbVQyM0R2c1li
ZXZqOVRPMko1QWZkNWd6ZGR3RnJZb0NjMWVDMTBRUDlmeEFUWW1tMkUzeHQrdkRP
YlphY3J2OW5EQ0RtWGRFRS9VUElhZmx6SXc9PSJ9
-----END ENCRYPTED COSIGN PRIVATE KEY-----
"""
"""A key that `skopeo generate-sigstore-key` made with the password `secret`; it signs nothing but here."""
SEALED_PUBLIC = b"""\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAETeqXaz1QWVMQ84vOQ52FOsESZqaZ
HWfXCGqNHddy2e1bRSvl0mkH0X/lnZnCMtEiNSDKbgswof6CohjOOXj5UQ==
-----END PUBLIC KEY-----
"""
KEY = SigningKey(ec.derive_private_key(7, ec.SECP256R1()))
OTHER = SigningKey(ec.derive_private_key(8, ec.SECP256R1()))
SUBJECT = Digest.of(b"image")
FULL = f"{NAME.registry}/{NAME.repository}"


def pem(key: Any, password: bytes = b"", form: str = "PKCS8") -> bytes:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    found: bytes = key.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), how)
    return found


def public_pem(key: SigningKey) -> bytes:
    return key.public.key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("text", "password"),
    [
        (pem(KEY.key), None),
        (pem(KEY.key, b"pass"), b"pass"),
        (pem(KEY.key, form="TraditionalOpenSSL"), None),
        (pem(KEY.key, b"pass", "TraditionalOpenSSL"), b"pass"),
    ],
    ids=["pkcs8", "pkcs8 encrypted", "sec1", "sec1 encrypted"],
)
def test_a_key_is_read_in_every_form_that_openssl_writes(text: bytes, password: bytes | None) -> None:
    assert KEY.public.hint == SigningKey.read(text, password).public.hint


@pytest.mark.parametrize("label", ["COSIGN", "SIGSTORE"])
def test_a_key_that_skopeo_or_cosign_sealed_is_opened(label: str) -> None:
    found = SigningKey.read(SEALED.replace(b"COSIGN", label.encode()), b"secret")

    assert PublicKey.read(SEALED_PUBLIC) == PublicKey(found.public.key)


def resealed(**changes: Any) -> bytes:
    """The sealed key with something else in it."""
    lines = SEALED.splitlines()
    table = json.loads(base64.b64decode(b"".join(lines[1:-1])))
    for path, value in changes.items():
        inner = table
        *folders, last = path.split("_")
        for each in folders:
            inner = inner[each]
        inner[last] = value
    return b"\n".join((lines[0], base64.b64encode(json.dumps(table).encode()), lines[-1]))


@pytest.mark.parametrize(
    ("text", "password", "fault"),
    [
        (b"", None, "no private key in PEM"),
        (SEALED_PUBLIC, None, "no private key in PEM"),
        (pem(KEY.key, b"pass"), None, "encrypted, and there is no password"),
        (pem(KEY.key, b"pass"), b"past", "its password is another one"),
        (pem(KEY.key).replace(b"M", b"N"), None, "malformed"),
        (pem(ec.derive_private_key(7, ec.SECP384R1())), None, "none of ECDSA on P-256"),
        (pem(ed25519.Ed25519PrivateKey.generate()), None, "none of ECDSA on P-256"),
        (SEALED, None, "encrypted, and there is no password"),
        (SEALED, b"secrex", "its password is another one"),
        (SEALED[:200], b"secret", "malformed"),
        (resealed(kdf_params_N=1 << 40), b"secret", "malformed"),
        (resealed(kdf_name="none"), b"secret", "malformed"),
        (resealed(cipher_nonce="AAAA"), b"secret", "malformed"),
        (resealed(ciphertext="AAAA"), b"secret", "malformed"),
        (resealed(ciphertext=3), b"secret", "malformed"),
    ],
)
def test_a_key_of_no_use_says_why_and_shows_nothing(text: bytes, password: bytes | None, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as caught:
        SigningKey.read(text, password)
    assert not any(line in str(caught.value) for line in text.decode().splitlines() if len(line) > 20)


@pytest.mark.parametrize(
    ("text", "fault"),
    [(b"x", "no public key in PEM"), (pem(KEY.key), "it is a private key"), (SEALED, "it is a private key")],
)
def test_a_public_key_of_no_use_says_why(text: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        PublicKey.read(text)


def test_a_private_key_does_not_show_itself() -> None:
    assert str(7) not in repr(KEY).replace(repr(KEY.public), "")


def test_the_older_form_is_the_one_of_its_specification() -> None:
    data = signature.payload("r.test/a", SUBJECT)
    layer = signature.signed_layer(data, KEY).document()
    critical = {
        "identity": {"docker-reference": "r.test/a"},
        "image": {"docker-manifest-digest": SUBJECT.oci},
        "type": "cosign container image signature",
    }

    assert {"critical": critical, "optional": None} == json.loads(data)
    assert "application/vnd.dev.cosign.simplesigning.v1+json" == layer["mediaType"]
    assert f"sha256-{SUBJECT.hash}.sig" == signature.tag_of(SUBJECT)
    assert ["dev.cosignproject.cosign/signature"] == list(layer["annotations"])  # type: ignore[call-overload]


def test_the_newer_form_is_the_one_of_its_specification() -> None:
    found = json.loads(signature.bundle(signature.statement(SUBJECT), KEY))
    envelope = found.pop("dsseEnvelope")
    said = json.loads(base64.b64decode(envelope["payload"]))
    hint = {"publicKey": {"hint": KEY.public.hint}}

    assert {"mediaType": BUNDLE, "verificationMaterial": hint} == found
    assert "application/vnd.in-toto+json" == envelope["payloadType"] and ["sig"] == list(*envelope["signatures"])
    assert "https://sigstore.dev/cosign/sign/v1" == said["predicateType"]
    assert [{"digest": {"sha256": SUBJECT.hash}}] == said["subject"]


def test_the_same_image_and_key_are_the_same_bytes() -> None:
    assert signature.bundle(b"{}", KEY) == signature.bundle(b"{}", KEY) != signature.bundle(b"{}", OTHER)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not there")
def test_openssl_agrees_on_both_forms(tmp_path: Path) -> None:
    data = signature.payload("r.test/a", SUBJECT)
    said = signature.statement(SUBJECT)
    envelope = json.loads(signature.bundle(said, KEY))["dsseEnvelope"]
    encoded = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(said), said)
    first = signature.signed_layer(data, KEY).annotations[signature.SIGNATURE]
    (tmp_path / "key.pub").write_bytes(public_pem(KEY))
    for signed_bytes, text in ((data, first), (encoded, envelope["signatures"][0]["sig"])):
        (tmp_path / "data").write_bytes(signed_bytes)
        (tmp_path / "sig").write_bytes(base64.b64decode(text))
        argv = ["openssl", "dgst", "-sha256", "-verify", "key.pub", "-signature", "sig", "data"]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)

        assert "Verified OK" in done.stdout


@pytest.fixture(params=[True, False], ids=["lists referrers", "knows no referrers"])
def here(request: pytest.FixtureRequest) -> Iterator[Here]:
    with open_registry() as registry:
        found = Here(registry)
        found.writable.lists = request.param
        yield found


def sign(here: Here, key: SigningKey = KEY, *, older: bool = True, newer: bool = True) -> None:
    """Push the image and sign it."""
    pusher = here.push()
    root = here.content.root
    if newer:
        one = signed(here.store, root, signature.statement(root.digest), SIGNED, key)
        push_referrers(pusher, NAME.repository, [one])
    if older:
        push_signature(pusher, NAME.repository, root.digest, FULL, key)


def found(here: Here, key: SigningKey = KEY, digest: str = "") -> list[Claim]:
    return claims(here.pusher().registry, NAME.repository, digest or here.content.root.digest.oci, key.public)


@pytest.mark.parametrize(("older", "newer"), [(True, False), (False, True), (True, True)])
def test_either_form_is_found_by_its_key_alone(here: Here, older: bool, newer: bool) -> None:
    sign(here, older=older, newer=newer)

    assert [Claim(here.content.root.digest.oci, SIGNED)] == found(here)
    assert [] == found(here, OTHER)


def test_an_image_that_nobody_signed_has_no_signature(here: Here) -> None:
    here.push()

    assert [] == found(here)


def test_signing_again_sends_nothing(here: Here) -> None:
    sign(here)
    received, puts = here.writable.received, len(here.writable.puts)
    sign(here)

    assert (received, puts) == (here.writable.received, len(here.writable.puts))


def test_two_keys_sign_beside_each_other(here: Here) -> None:
    sign(here)
    sign(here, OTHER)

    assert 1 == len(found(here)) == len(found(here, OTHER))
    assert here.has_whole()


def test_a_signature_does_not_go_over_to_another_image(here: Here) -> None:
    """The manifest of signatures is copied to another image's tag: what they say is of the first one."""
    sign(here, newer=False)
    here.push()
    stranger = Digest.of(b"another image")
    tags = here.registry.tags
    tags[NAME.repository, signature.tag_of(stranger)] = tags[
        NAME.repository, signature.tag_of(here.content.root.digest)
    ]

    assert [] == found(here, digest=stranger.oci)


def test_a_bundle_about_another_image_counts_for_nothing(here: Here) -> None:
    pusher = here.push()
    said = signature.statement(Digest.of(b"another image"))
    push_referrers(pusher, NAME.repository, [signed(here.store, here.content.root, said, SIGNED, KEY)])

    assert [] == found(here)


@pytest.mark.parametrize("junk", [b"", b"[]", b"{", b'{"dsseEnvelope": {"signatures": [3], "payload": "e30="}}'])
def test_what_strangers_add_hides_no_signature(here: Here, junk: bytes) -> None:
    pusher = here.push()
    root = here.content.root
    broken = signed(here.store, root, b"{}", SIGNED, KEY)
    layer = here.store.put(junk)
    push_referrers(pusher, NAME.repository, [type(broken)(root, BUNDLE, layer, "junk", {}), broken])
    sign(here)

    assert [Claim(root.digest.oci, SIGNED)] == found(here)


def test_what_is_said_of_an_image_is_signed_too(here: Here) -> None:
    pusher = here.push()
    root = here.content.root
    said = {"_type": signature.STATEMENT_TYPE, "subject": [{"digest": {"sha256": root.digest.hash}}]}
    text = json.dumps({**said, "predicateType": "https://slsa.dev/provenance/v1", "predicate": {}}).encode()
    one = signed(here.store, root, text, "https://slsa.dev/provenance/v1", KEY)
    push_referrers(pusher, NAME.repository, [one])

    assert ["https://slsa.dev/provenance/v1"] == [each.predicate for each in found(here)]


def test_what_lies_under_a_signatures_tag_and_is_none_is_left_alone(here: Here) -> None:
    pusher = here.push()
    root = here.content.root
    tags = here.registry.tags
    before = here.registry.document_bytes(mediatype.MANIFEST, b'{"layers": 3}')
    tags[NAME.repository, signature.tag_of(root.digest)] = before

    with pytest.raises(MaterialError, match="unsigned: What lies under `sha256-.*.sig` holds no signatures"):
        push_signature(pusher, NAME.repository, root.digest, FULL, KEY)
    assert before == tags[NAME.repository, signature.tag_of(root.digest)]
    assert [] == found(here)


def test_a_signature_that_is_refused_is_said(here: Here) -> None:
    pusher = here.push()
    digest = here.content.root.digest
    here.registry.faults[f"PUT {signature.tag_of(digest)}"] = [lambda handler: reply(handler, 400, b"")]

    with pytest.raises(MaterialError, match="unsigned: HTTP 400"):
        push_signature(pusher, NAME.repository, digest, FULL, KEY)


def test_the_media_type_of_a_payload_counts(here: Here) -> None:
    layer = signature.signed_layer(signature.payload(FULL, SUBJECT), KEY)

    assert SIMPLE_SIGNING == layer.media_type
    assert signature.claim_of_payload(layer, signature.payload(FULL, Digest.of(b"")), KEY.public) is None
