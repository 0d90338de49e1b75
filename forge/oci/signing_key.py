"""Keys that images are signed with: ECDSA on P-256 over SHA-256, as cosign makes them and all its kin take them.

Private keys are PEM: PKCS#8, plain or encrypted (`openssl genpkey`), SEC 1 (`openssl ecparam`), or cosign's own form
(`sealed_key`). The nonce is derived from key and message (RFC 6979): the same signature every time, so that a second
push has nothing to send.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forge.oci import sealed_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

_WANTED = "it is none of ECDSA on P-256, which forge signs with"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What signatures are checked with."""

    key: ec.EllipticCurvePublicKey

    @classmethod
    def read(cls, pem: bytes) -> PublicKey:
        """Read a PEM block of the kind `PUBLIC KEY`; ValueError when it is none, or of another kind of key."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        if b"PRIVATE KEY-----" in pem:
            raise ValueError("it is a private key, a public one is needed")
        try:
            found = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("it is no public key in PEM") from None
        return cls(_on_p256(found))

    @property
    def hint(self) -> str:
        """The name that bundles have for it: the hash of its DER form, in base64."""
        return base64.b64encode(self._hash()).decode()

    @property
    def fingerprint(self) -> str:
        """The same for people."""
        return f"SHA256:{self._hash().hex()[:16]}"

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Say whether a signature is of this key over these bytes."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            self.key.verify(signature, data, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    def _hash(self) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return hashlib.sha256(self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key; it shows itself to nobody."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def read(cls, pem: bytes, password: bytes | None) -> SigningKey:
        """Read a PEM block; ValueError says in words why it is of no use, without showing any of it."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

        if not is_private(pem):
            raise ValueError("it is no private key in PEM")
        if is_encrypted(pem) and password is None:
            raise ValueError("it is encrypted, and there is no password")
        try:
            if sealed_key.is_sealed(pem):
                found = load_der_private_key(sealed_key.unseal(pem, password or b""), None)
            else:
                found = load_pem_private_key(pem, password if is_encrypted(pem) else None)
        except UnsupportedAlgorithm:
            raise ValueError(_WANTED) from None
        except ValueError as error:
            known = sealed_key.is_sealed(pem) and str(error).startswith("it is")
            other = "its password is another one, or it is malformed" if is_encrypted(pem) else "it is malformed"
            raise ValueError(str(error) if known else other) from None
        return cls(_private_on_p256(found))

    @property
    def public(self) -> PublicKey:
        """What its signatures are checked with."""
        return PublicKey(self.key.public_key())

    def sign(self, data: bytes) -> bytes:
        """Sign bytes; the same signature every time."""
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256

        return self.key.sign(data, ec.ECDSA(SHA256(), deterministic_signing=True))


def is_private(pem: bytes) -> bool:
    """Say whether a text is a PEM block with a private key in it."""
    return b"-----BEGIN " in pem and b"PRIVATE KEY-----" in pem


def is_encrypted(pem: bytes) -> bool:
    """Say whether a private key needs a password."""
    return b"-----BEGIN ENCRYPTED " in pem or b"Proc-Type: 4,ENCRYPTED" in pem


def _on_p256(found: object) -> ec.EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    if isinstance(found, ec.EllipticCurvePublicKey) and isinstance(found.curve, ec.SECP256R1):
        return found
    raise ValueError(_WANTED)


def _private_on_p256(found: object) -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    if isinstance(found, ec.EllipticCurvePrivateKey) and isinstance(found.curve, ec.SECP256R1):
        return found
    raise ValueError(_WANTED)
