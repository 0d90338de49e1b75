"""Locking Debian packages: a request to the exact files of its closure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import unquote

from forge.core.errors import MaterialError
from forge.core.lock import Lock, Material, requested
from forge.net.connection import Connection
from forge.net.download import Downloader
from forge.packages.index_debian import Archive, Package
from forge.packages.release_debian import Suites, Trust
from forge.packages.resolve_debian import resolve
from forge.packages.sources import Sources
from forge.packages.upgrade import NOTHING, Upgrade

BOOKWORM = ("bookworm", "bookworm-updates", "bookworm-security")
"""In the order of preference: superseded versions of the other suites vanish from the archive, main's stay."""


@dataclass(frozen=True, slots=True)
class DebianRequest:
    """Packages to be locked for one architecture."""

    packages: tuple[str, ...]
    """Names, each with an optional bound: `libc6`, `libc6=2.36-9`, `libc6 (>= 2.36)`."""
    exclude: tuple[str, ...] = ()
    """Names that are left out, with what only they need: what maintainer scripts want and running does not."""
    arch: Literal["amd64", "arm64"] = "amd64"
    suites: tuple[str, ...] = BOOKWORM
    source: str = "debian"
    trust: Trust = field(default_factory=Trust)

    @property
    def requested(self) -> tuple[str, ...]:
        """What the lock keeps of the request."""
        return requested(self.packages, self.exclude)


def lock_debian(
    request: DebianRequest,
    sources: Sources,
    *,
    previous: Lock | None = None,
    upgrade: Upgrade = NOTHING,
    downloader: Downloader | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Lock:
    """Resolve `request` in its suites; versions of `previous` stay, but for `upgrade`, while the archive has them."""
    both = sorted(set(request.packages) & set(request.exclude))
    if both:
        raise MaterialError(f"Packages are both asked for and excluded: [{', '.join(both)}]")
    downloader = downloader or Downloader(connection=Connection(sources.environ))
    released = dict(previous.released) if previous else {}
    suites = Suites(request.source, sources, downloader, warn, request.trust, released)
    indexes = [suites.read(suite, request.arch) for suite in request.suites]
    archive = Archive(indexes, prefer={each.name: each.version for each in upgrade.kept(previous)})
    packages = resolve(request.packages, archive, exclude=request.exclude)
    materials = tuple(_material(each, request.source) for each in packages)
    upgrade.check(previous, materials)
    dates = tuple(sorted((each.suite, each.released) for each in indexes if each.released))
    made = Lock("deb", request.arch, request.requested, materials, released=dates)
    if previous is not None and previous.released and replace(made, released=previous.released) == previous:
        return previous  # nothing is gained by a newer date alone
    return made


def _material(package: Package, source: str) -> Material:
    return Material(
        name=package.name,
        version=package.version,
        file=unquote(package.path.rpartition("/")[2]),
        digest=package.digest,
        source=source,
        path=package.path,
        suite=package.suite,
    )
