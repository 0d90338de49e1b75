"""Locking Python packages: requirements to one wheel per package, for a target that need not be this machine.

uv resolves; what it writes (PEP 751, with this machine's addresses) becomes names, digests and source ids.

Of the places that the user has for `pypi` the newest fitting version is taken, wherever it is, as pip does. A package
with a source of its own is looked for there alone; what its source does not give is left out and recorded as missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from forge.core.digest import Digest
from forge.core.errors import Fault, MaterialError
from forge.core.lock import Lock, Material, requested
from forge.net.address import local_path, mask
from forge.net.connection import Connection, Unavailable
from forge.net.download import Downloader
from forge.packages.index_python import PackageIndex, normalize
from forge.packages.resolve_python import Resolver
from forge.packages.source_pin import Absent, Pinned, SourcePins, parse_requirement
from forge.packages.sources import Sources, setting_hint
from forge.packages.stub import is_stub, may_be_stub
from forge.packages.target_python import PythonTarget, best_wheel
from forge.packages.upgrade import NOTHING, Upgrade

if TYPE_CHECKING:
    from packaging.pylock import Package, PackageWheel

_ELSEWHERE = "Name the source of the real one in `sources`, or cut it with `exclude_wheels`"


@dataclass(frozen=True, slots=True)
class PythonRequest:
    """Requirements to be locked for one target."""

    requirements: tuple[str, ...]
    """PEP 508, such as `torch==2.13.0+cpu`."""
    target: PythonTarget = field(default_factory=PythonTarget)
    constraints: tuple[str, ...] = ()
    """Bounds for packages that something else may ask for: a platform's lock, for a target's own `deps`."""
    exclude: tuple[str, ...] = ()
    """Packages that are left out though something requires them, with what only they require."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Package -> source id: it comes from there alone, and is asked for whether or not `requirements` repeats it."""

    @property
    def requested(self) -> tuple[str, ...]:
        """What the lock keeps of the request."""
        return requested(self.requirements, self.exclude, self.sources.items())


def lock_python(
    request: PythonRequest,
    sources: Sources,
    *,
    previous: Lock | None = None,
    upgrade: Upgrade = NOTHING,
    downloader: Downloader | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Lock:
    """Resolve `request`; versions of `previous` are kept where they fit and `upgrade` does not name them."""
    downloader = downloader or Downloader(connection=Connection(sources.environ))
    names = {normalize(parse_requirement(each).name) for each in request.requirements} | {
        *map(normalize, request.sources)
    }
    exclude = tuple(sorted({*map(normalize, request.exclude)}))
    if both := sorted(names & {*exclude}):
        raise MaterialError(f"Packages are both asked for and excluded: [{', '.join(both)}]")
    pinned = SourcePins(request.sources, request.target, sources, PackageIndex(downloader)).sort(request.requirements)
    for each in pinned.absent:
        _refuse_loss(each, previous)
        warn(f"{each}\n  hint: {setting_hint(each.material.source)}, then run `forge lock` again")
    resolution = Resolver(request.target, sources, warn).resolve(
        pinned.requirements,
        pins=pinned.pins,
        constraints=request.constraints,
        # Else something that requires it would bring it from elsewhere.
        exclude=(*exclude, *(each.material.name for each in pinned.absent)),
        kept=upgrade.kept(previous),
        refresh=upgrade.everything or bool(upgrade.packages),
    )
    kept = upgrade.kept(previous)
    chooser = _Chooser(request.target, pinned, downloader, {each.name: each for each in kept})
    materials = chooser.materials(resolution.packages)
    upgrade.check(previous, materials)
    missing = tuple(each.material for each in pinned.absent)
    return Lock("python", request.target.arch, request.requested, materials, missing=missing)


def _refuse_loss(absent: Absent, previous: Lock | None) -> None:
    """Keep a lock from losing on one network what it was given on another."""
    for each in previous.materials if previous else ():
        if each.name == absent.material.name:
            text = f"`{each.name}` {each.version} is locked, and its source does not answer here: {absent}"
            raise MaterialError(text, hint=f"Lock where it does; {setting_hint(absent.material.source)}")


@dataclass(frozen=True, slots=True)
class _Chooser:
    """Takes one wheel of each package that uv has chosen."""

    target: PythonTarget
    pinned: Pinned
    downloader: Downloader
    kept: Mapping[str, Material]
    """What is locked and is to stay, by name."""

    def materials(self, packages: Sequence[Package]) -> tuple[Material, ...]:
        with ThreadPoolExecutor(max_workers=8) as pool:
            futures = [pool.submit(self._material, each) for each in packages]
        faults: list[Fault] = []
        materials: list[Material] = []
        for future in futures:
            try:
                materials.append(future.result())
            except MaterialError as error:
                faults += error.faults
        if faults:
            raise MaterialError(faults[0], *faults[1:])
        return tuple(sorted(materials, key=lambda each: each.name))

    def _material(self, package: Package) -> Material:
        version = str(package.version or "")
        if not package.wheels:
            raise MaterialError(f"`{package.name}` {version} has no wheel", hint="forge builds no source distributions")
        if not any(int(part) for part in re.findall(r"\d+", version.partition("+")[0])):
            raise MaterialError(f"`{package.name}` {version} is a placeholder, not a release", hint=_ELSEWHERE)
        by_name: dict[str, tuple[str, PackageWheel]] = {}
        for each in package.wheels:
            address = each.url or each.path or ""
            by_name[each.name or unquote(urlsplit(address).path).rpartition("/")[2]] = (address, each)
        was = self.kept.get(package.name)
        # A better wheel that was uploaded since is an upgrade, too.
        stays = was is not None and was.version == version and was.file in by_name
        file = best_wheel([was.file] if was is not None and stays else by_name, self.target)
        if file is None:
            offered = ", ".join(sorted(by_name))
            raise MaterialError(f"`{package.name}` {version} has no wheel for {self.target}: [{offered}]")
        address, wheel = by_name[file]
        if "sha256" not in wheel.hashes:
            raise MaterialError(f"The index gives no sha256 for `{file}`")
        digest = Digest(wheel.hashes["sha256"], wheel.size or self._size(address, file))
        self._check_origin(package.name, file, digest)
        if (was is None or was.digest != digest) and may_be_stub(digest.size):
            self._refuse_stub(address, file)
        return Material(package.name, version, file, digest, self.pinned.ids.get(package.name, "pypi"))

    def _check_origin(self, name: str, file: str, digest: Digest) -> None:
        """Hold uv to it that a pinned package is its source's own."""
        for pin in self.pinned.pins:
            if pin.name == name:
                offered = pin.files.get(file)
                if offered is None or offered.sha256 not in ("", digest.hash):
                    raise MaterialError(f"`{file}` is not what source `{pin.source}` has: it came from another place")

    def _refuse_stub(self, address: str, file: str) -> None:
        try:
            data = self.downloader.read(str(local_path(address)) if address.startswith("file:") else address).data
        except Unavailable as error:
            raise MaterialError(f"Cannot look into `{file}` at {mask(address)}: {error}") from error
        if is_stub(data):
            raise MaterialError(
                f"`{file}` is a stub: it has nothing but its name",
                hint=_ELSEWHERE,
            )

    def _size(self, address: str, file: str) -> int:
        try:
            return self.downloader.size(str(local_path(address)) if address.startswith("file:") else address)
        except (Unavailable, OSError) as error:
            raise MaterialError(f"Cannot find the size of `{file}` at {mask(address)}: {error}") from error
