"""The identity of content: SHA-256 and size."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """SHA-256 and size of some bytes; the only identity that content has."""

    hash: str
    """64 lower-case hexadecimal digits."""
    size: int
    """Bytes."""

    def __post_init__(self) -> None:
        if not _HEX.fullmatch(self.hash) or self.size < 0:
            raise ValueError(f"Not a SHA-256 digest: `{self.hash}` of {self.size} bytes")

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Hash `data`."""
        return cls(hashlib.sha256(data).hexdigest(), len(data))

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read what `str` wrote; ValueError when it is something else."""
        head, _, size = text.partition("/")
        if not (size.isascii() and size.isdecimal()):
            raise ValueError(f"Not a digest: `{text}`")
        return cls(head, int(size))

    @property
    def oci(self) -> str:
        """The form of the OCI image specification, `sha256:…`."""
        return f"sha256:{self.hash}"

    @property
    def short(self) -> str:
        """Enough of the hash for a person."""
        return self.hash[:12]

    def __str__(self) -> str:
        return f"{self.hash}/{self.size}"


@dataclass(frozen=True, slots=True, order=True)
class Hash:
    """SHA-256 of bytes whose size nobody has told: what a lock holds where it does not know better."""

    hash: str
    """64 lower-case hexadecimal digits."""

    def __post_init__(self) -> None:
        if not _HEX.fullmatch(self.hash):
            raise ValueError(f"Not a SHA-256 digest: `{self.hash}`")

    @property
    def short(self) -> str:
        """Enough of the hash for a person."""
        return self.hash[:12]

    def __str__(self) -> str:
        return self.hash


Pin = Digest | Hash
"""What is known beforehand of bytes that are to be brought."""

EMPTY = Digest.of(b"")
