"""A registry's read side: what a tag or digest means there, and the documents below it.

https://github.com/opencontainers/distribution-spec, "Pull". Blobs are materials like any other, and are brought by
whoever brings those.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from forge.core.digest import Digest
from forge.core.image_name import ImageName
from forge.net.address import mask
from forge.net.connection import Login, Missing, Unavailable
from forge.net.download import Downloader
from forge.net.registry import ACCEPT, LIMIT, api
from forge.oci import mediatype


@dataclass(frozen=True, slots=True)
class Document:
    """An index or manifest as its registry gave it."""

    digest: Digest
    data: bytes


@dataclass(frozen=True, slots=True)
class Registry:
    """One address of a registry; safe to share between threads."""

    address: str
    """`https://host`, with a path where a mirror has one."""
    transfer: Downloader
    login: Login = field(repr=False)

    def __str__(self) -> str:
        return mask(self.address)

    def resolve(self, name: ImageName) -> Document:
        """Read what a name means here, its digest before its tag; Missing or Unavailable where it is nothing."""
        return self.read(name.repository, name.digest or name.tag)

    def read(self, repository: str, reference: str) -> Document:
        """Read an index or manifest by tag or digest; Unavailable when it is not what the digest says."""
        address = api(self.address, f"{repository}/manifests/{reference}")
        try:
            page = self.transfer.read(address, accept=ACCEPT, limit=LIMIT, login=self.login)
        except Missing as error:
            raise Missing(f"{error}: no such repository, tag or digest") from error
        digest = Digest.of(page.data)
        if reference.startswith("sha256:") and digest.oci != reference:
            raise Unavailable(f"Gives {digest.oci} for {reference}")
        return Document(digest, page.data)

    def referrers(self, repository: str, digest: str) -> bytes:
        """Read the index of what refers to a document, from the registry's list or the tag in its place.

        Missing where there is none; Unavailable where there is no registry.
        """
        address = api(self.address, f"{repository}/referrers/{digest}")
        try:
            return self.transfer.read(address, accept=mediatype.INDEX, limit=LIMIT, login=self.login).data
        except Missing:
            return self.read(repository, digest.replace(":", "-")).data

    def blob(self, repository: str, digest: Digest) -> bytes:
        """Read a small blob whole; Unavailable when it is large or not what the digest says."""
        if digest.size > LIMIT:
            raise Unavailable(f"{digest.oci} has {digest.size} bytes, more than {LIMIT}")
        page = self.transfer.read(
            api(self.address, f"{repository}/blobs/{digest.oci}"), limit=digest.size, login=self.login
        )
        if Digest.of(page.data) != digest:
            raise Unavailable(f"Gives {Digest.of(page.data).oci} for {digest.oci}")
        return page.data
