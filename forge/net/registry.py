"""The OCI distribution API's addresses, and how its documents are asked for.

https://github.com/opencontainers/distribution-spec, "Pull"
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit, urlunsplit

from forge.core.image_name import DOCKER_HUB
from forge.net.address import is_loopback

DOCUMENTS: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Media types of indexes and manifests; a registry that is not told them may give an older form, or nothing."""
ACCEPT: Final = ", ".join(DOCUMENTS)
LIMIT: Final = 4 << 20
"""Bytes of an index or a manifest; registries refuse larger ones."""

_HUB_HOST: Final = "registry-1.docker.io"


def default_address(registry: str) -> str:
    """Say where a registry is unless `[sources]` says otherwise: plain http is for this machine alone."""
    host = _HUB_HOST if registry == DOCKER_HUB else registry
    scheme = "http" if is_loopback(host.rpartition(":")[0] or host) else "https"
    return f"{scheme}://{host}"


def api(address: str, path: str) -> str:
    """Give the address of a repository's part; the path of a mirror stands before the repository's name."""
    parts = urlsplit(address)
    prefix = parts.path.strip("/")
    return urlunsplit((parts.scheme, parts.netloc, "/" + "/".join(filter(None, ("v2", prefix, path))), "", ""))


def is_document(path: str) -> bool:
    """Say whether a material's path is that of an index or manifest."""
    return "/manifests/" in path
