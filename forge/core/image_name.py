"""Names of images in registries, as declarations have them: always with a tag or a digest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

DOCKER_HUB: Final = "docker.io"
"""The registry of names that have none."""

_ALIASES = ("index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REGISTRY = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::[0-9]{1,5})?")
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image by registry, repository, and tag or digest."""

    registry: str
    """Its name, `nvcr.io`; `[sources]` says where that is."""
    repository: str
    """With `library/` where Docker Hub leaves it out."""
    tag: str
    """Empty where the digest alone names it."""
    digest: str = ""
    """`sha256:…`, or empty."""

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Read `[registry/]repository[:tag][@sha256:…]`; ValueError in words when it is something else."""
        named, at, digest = text.partition("@")
        first, slash, rest = named.partition("/")
        has_registry = bool(slash) and is_registry(first)
        registry, path = (first.lower(), rest) if has_registry else (DOCKER_HUB, named)
        repository, colon, tag = path.partition(":")
        if at and not _DIGEST.fullmatch(digest):
            raise ValueError(f"`{text}`: a digest is `sha256:` and 64 hexadecimal digits")
        if not tag and not at:
            raise ValueError(f"`{text}` needs a tag, such as `{named}:1.0`")
        if colon and not _TAG.fullmatch(tag):
            raise ValueError(f"`{text}`: `{tag}` cannot be a tag")
        return cls.of(registry, repository, tag, digest)

    @classmethod
    def of(cls, registry: str, repository: str, tag: str, digest: str = "") -> ImageName:
        """Put a name together from its parts, Docker Hub's in their one form; ValueError when there is no such."""
        registry = registry_id(registry)
        if registry == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        if not _REGISTRY.fullmatch(registry):
            raise ValueError(f"`{registry}` cannot be the name of a registry")
        if not _REPOSITORY.fullmatch(repository) or len(repository) > 255:
            raise ValueError(f"`{repository}` cannot be a repository: lower case, digits, and `.`, `_`, `-` between")
        if (tag and not _TAG.fullmatch(tag)) or (digest and not _DIGEST.fullmatch(digest)):
            raise ValueError(f"`{tag or digest}` of `{repository}` is neither a tag nor a digest")
        return cls(registry, repository, tag, digest)

    @property
    def tagged(self) -> str:
        """The name without its digest, where it has a tag."""
        return f"{self.registry}/{self.repository}" + (f":{self.tag}" if self.tag else "")

    def __str__(self) -> str:
        return self.tagged + (f"@{self.digest}" if self.digest else "")


def is_registry(text: str) -> bool:
    """Say whether a name's first part is a registry, as Docker does: it has a dot or a port, or is `localhost`."""
    return "." in text or ":" in text or text == "localhost"


def registry_id(text: str) -> str:
    """Give the one name of a registry that has several."""
    return DOCKER_HUB if text in _ALIASES else text
