"""A private key as `cosign generate-key-pair` and `skopeo generate-sigstore-key` write it, opened with its password.

A PEM block around JSON: scrypt (RFC 7914) makes a key of the password, with which NaCl's secretbox, XSalsa20 and
Poly1305, seals a PKCS#8 document. https://github.com/sigstore/sigstore, pkg/cryptoutils/encrypted;
https://cr.yp.to/snuffle/xsalsa-20081128.pdf. No package that forge stands on has XSalsa20: 170 bytes of it are
computed here, with 32-bit words as the paper has them.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Final

from forge.oci import document
from forge.oci.check import Check

LABELS: Final = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")
"""What the PEM block is called, by newer and older versions."""

_MOST: Final = 1 << 20
"""scrypt's N that is accepted: it costs a kilobyte a unit."""
_MAC: Final = 16
_SIGMA: Final = struct.unpack("<4I", b"expand 32-byte k")
_ROUNDS: Final = (
    ((4, 0, 12, 7), (8, 4, 0, 9), (12, 8, 4, 13), (0, 12, 8, 18)),
    ((9, 5, 1, 7), (13, 9, 5, 9), (1, 13, 9, 13), (5, 1, 13, 18)),
    ((14, 10, 6, 7), (2, 14, 10, 9), (6, 2, 14, 13), (10, 6, 2, 18)),
    ((3, 15, 11, 7), (7, 3, 15, 9), (11, 7, 3, 13), (15, 11, 7, 18)),
    ((1, 0, 3, 7), (2, 1, 0, 9), (3, 2, 1, 13), (0, 3, 2, 18)),
    ((6, 5, 4, 7), (7, 6, 5, 9), (4, 7, 6, 13), (5, 4, 7, 18)),
    ((11, 10, 9, 7), (8, 11, 10, 9), (9, 8, 11, 13), (10, 9, 8, 18)),
    ((12, 15, 14, 7), (13, 12, 15, 9), (14, 13, 12, 13), (15, 14, 13, 18)),
)
"""A double round: word, two words that are added, and by how much the sum is rotated."""


def is_sealed(pem: bytes) -> bool:
    """Say whether a PEM block is of this kind."""
    return any(f"-----BEGIN {label}-----".encode() in pem for label in LABELS)


def unseal(pem: bytes, password: bytes) -> bytes:
    """Open it: a PKCS#8 document; ValueError when it is malformed or the password is another one."""
    check = Check("key")
    table = check.document(base64.b64decode(b"".join(_body(pem).split())))
    kdf, cipher = check.object(table.get("kdf"), "kdf"), check.object(table.get("cipher"), "cipher")
    params = check.object(kdf.get("params"), "kdf.params")
    n, r, p = (check.number(params.get(each), f"kdf.params.{each}") for each in ("N", "r", "p"))
    texts = [kdf.get("salt"), cipher.get("nonce"), table.get("ciphertext")]
    salt, nonce, sealed = (base64.b64decode(check.text(each, "text")) for each in texts)
    kinds = (kdf.get("name"), cipher.get("name"))
    if check.faults or kinds != ("scrypt", "nacl/secretbox") or (r, p) != (8, 1) or not 1 < n <= _MOST:
        raise ValueError("it is malformed")
    key = hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=(n + 64) * 1024, dklen=32)
    return _open(key, nonce, sealed)


def _body(pem: bytes) -> bytes:
    for label in LABELS:
        _, begin, rest = pem.partition(f"-----BEGIN {label}-----".encode())
        body, end, _ = rest.partition(f"-----END {label}-----".encode())
        if begin and end and len(body) <= document.LIMIT:
            return body
    raise ValueError("it is malformed")


def _open(key: bytes, nonce: bytes, sealed: bytes) -> bytes:
    """NaCl's `crypto_secretbox_open`: the first 32 bytes of the stream are Poly1305's key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    if len(nonce) != 24 or len(sealed) < _MAC:
        raise ValueError("it is malformed")
    stream = _xsalsa20(key, nonce, 32 + len(sealed) - _MAC)
    try:
        Poly1305.verify_tag(stream[:32], sealed[_MAC:], sealed[:_MAC])
    except InvalidSignature:
        raise ValueError("its password is another one") from None
    return bytes(one ^ other for one, other in zip(sealed[_MAC:], stream[32:], strict=True))


def _xsalsa20(key: bytes, nonce: bytes, size: int) -> bytes:
    begin = _state(key, nonce[:16])
    mixed = _mix(begin)
    inner = struct.pack("<8I", *(mixed[each] for each in (0, 5, 10, 15, 6, 7, 8, 9)))
    found = b""
    for counter in range(-(-size // 64)):
        begin = _state(inner, nonce[16:] + struct.pack("<Q", counter))
        words = ((one + other) & 0xFFFFFFFF for one, other in zip(_mix(begin), begin, strict=True))
        found += struct.pack("<16I", *words)
    return found[:size]


def _state(key: bytes, middle: bytes) -> list[int]:
    half, other = struct.unpack("<4I", key[:16]), struct.unpack("<4I", key[16:])
    inner = struct.unpack("<4I", middle)
    return [_SIGMA[0], *half, _SIGMA[1], *inner, _SIGMA[2], *other, _SIGMA[3]]


def _mix(begin: list[int]) -> list[int]:
    words = list(begin)
    for _ in range(10):
        for group in _ROUNDS:
            for goal, left, right, count in group:
                total = (words[left] + words[right]) & 0xFFFFFFFF
                words[goal] ^= (total << count | total >> (32 - count)) & 0xFFFFFFFF
    return words
