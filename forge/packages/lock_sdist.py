"""Locking a source distribution: one archive of a given version, to be built in an environment of its own."""

from __future__ import annotations

import re

from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.lock import Lock, Material
from forge.core.platform import Arch
from forge.net.connection import Connection, Unavailable
from forge.net.download import Downloader
from forge.packages.index_python import IndexFile, PackageIndex, normalize
from forge.packages.sources import Sources, setting_hint

_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!+_-]+)")


def lock_sdist(requirement: str, arch: Arch, sources: Sources, *, downloader: Downloader | None = None) -> Lock:
    """Find the `.tar.gz` of `name==version`; MaterialError where no index has it with a sha256."""
    match = _REQUIREMENT.fullmatch(requirement)
    if match is None:
        raise MaterialError(f"`{requirement}` must name one version", hint="Write `name==version`")
    name, version = normalize(match[1]), match[2]
    transfer = downloader or Downloader(None, connection=Connection(sources.environ))
    index = PackageIndex(transfer)
    reasons = []
    for place in sources.places("pypi"):
        try:
            files = index.linked(place.address) if place.kind == "links" else index.files(place.address, name)
        except Unavailable as error:
            reasons.append(f"\n    {place}: {error}")
            continue
        assert isinstance(files, dict)
        for file, offered in sorted(files.items()):
            stem = file.removesuffix(f"-{version}.tar.gz")
            if stem != file and normalize(stem) == name and offered.sha256:
                try:
                    return Lock("sdist", arch, (requirement,), (_material(name, version, file, offered, transfer),))
                except Unavailable as error:
                    reasons.append(f"\n    {place}: {error}")
        reasons.append(f"\n    {place}: has no such archive")
    text = f"No source archive of `{requirement}`:{''.join(reasons)}"
    raise MaterialError(text, hint=setting_hint("pypi"))


def _material(name: str, version: str, file: str, offered: IndexFile, transfer: Downloader) -> Material:
    size = transfer.size(offered.address)
    return Material(name, version, file, Digest(offered.sha256, size), "pypi")
