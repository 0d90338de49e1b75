"""Locking a target's own Python packages: those that its platform has not, in versions that fit into it.

What the platform has is a constraint, and no more of it than the packages come to is noted in the lock. A package of
the platform that no index has in that version, built from source or for one accelerator, is shown to the resolver as
a wheel that needs nothing: what it needs in turn is the platform's business and is there.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from forge.core.errors import Fault, MaterialError
from forge.core.lock import Lock, Material
from forge.packages.index_python import normalize
from forge.packages.lock_python import PythonRequest, lock_python
from forge.packages.sources import Place, Sources
from forge.packages.upgrade import NOTHING, Upgrade

Resolve = Callable[[PythonRequest, Lock | None], Lock]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a platform has, and who is to be named when something does not fit into it."""

    packages: tuple[Material, ...]
    platform: str
    """Its environment's label."""
    place: str
    """Where that is declared."""
    asker: str
    """Label of the target whose packages are locked."""
    asker_place: str

    @property
    def versions(self) -> Mapping[str, str]:
        """Give the versions by normalised name."""
        return {normalize(each.name): each.version for each in self.packages}


def lock_deps(
    request: PythonRequest,
    around: Surroundings,
    sources: Sources,
    *,
    previous: Lock | None = None,
    upgrade: Upgrade = NOTHING,
    warn: Callable[[str], None] = lambda text: None,
) -> Lock:
    """Resolve what `request` adds to a platform; MaterialError names both sides where they do not fit together."""
    _refuse_other_versions(request, around)
    with tempfile.TemporaryDirectory(prefix="forge-deps-") as folder:
        stand_ins = [each for each in around.packages if each.source != "pypi" or not each.file.endswith(".whl")]
        for each in stand_ins:
            _stand_in(each, Path(folder))
        pypi = (Place(folder, "links", "the platform"), *sources.places("pypi"))
        everywhere = replace(sources, by_id={**sources.by_id, "pypi": pypi})

        def resolve(asked: PythonRequest, known: Lock | None, renewed: Upgrade = NOTHING) -> Lock:
            return lock_python(asked, everywhere, previous=known, upgrade=renewed, warn=warn)

        bounds = tuple(f"{name}=={version}" for name, version in sorted(around.versions.items()))
        try:
            found = resolve(replace(request, constraints=bounds), previous, upgrade)
        except MaterialError as error:
            raise _explained(error, request, around, resolve) from error
    has = around.versions
    own = tuple(each for each in found.materials if each.name not in has)
    beside = tuple(sorted(f"{each.name}=={each.version}" for each in found.materials if each.name in has))
    return replace(found, materials=own, beside=beside)


def _refuse_other_versions(request: PythonRequest, around: Surroundings) -> None:
    """Refuse, before anything is asked of an index, what the platform has in another version."""
    from packaging.requirements import InvalidRequirement, Requirement

    clashes = []
    for text in request.requirements:
        try:
            wanted = Requirement(text)
        except InvalidRequirement as error:
            text = f"`{text}` in `deps` of `{around.asker}` is no requirement: {error}"
            raise MaterialError(text, place=around.asker_place) from error
        has = around.versions.get(normalize(wanted.name))
        if has is not None and not wanted.specifier.contains(has, prereleases=True):
            clashes.append(f"`{text}` is asked for, the platform has `{wanted.name}` {has}")
    if clashes:
        raise MaterialError(_conflict(around, clashes))


def _explained(error: MaterialError, request: PythonRequest, around: Surroundings, resolve: Resolve) -> MaterialError:
    """Say what of the platform is in the way: what must differ though its versions are preferred wherever they do."""
    try:
        free = resolve(request, Lock("python", request.target.arch, (), around.packages))
    except MaterialError:
        return error  # the platform has no part in it
    clashes = [
        f"[{', '.join(request.requested)}] need `{each.name}` {each.version}, the platform has {has}"
        for each in free.materials
        if (has := around.versions.get(each.name)) is not None and has != each.version
    ]
    return MaterialError(_conflict(around, clashes, error.faults[0].text)) if clashes else error


def _conflict(around: Surroundings, clashes: Iterable[str], told: str = "") -> Fault:
    both = f"`deps` of `{around.asker}` and `{around.platform}` ({around.place})"
    return Fault(
        "\n".join(filter(None, (f"{both} do not fit together: {'; '.join(clashes)}", told))),
        around.asker_place,
        f"Ask for other versions in `deps`, or change the platform's and run `forge lock {around.platform}`",
    )


def _stand_in(material: Material, folder: Path) -> None:
    name = normalize(material.name).replace("-", "_")
    info = f"{name}-{material.version}.dist-info"
    members = {
        "METADATA": f"Metadata-Version: 2.1\nName: {material.name}\nVersion: {material.version}\n",
        "WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
        "RECORD": "",
    }
    # With a file beside its metadata: it is no stub, of which the lock would be kept.
    members = {f"{info}/{member}": text for member, text in members.items()} | {f"{name}/platform": ""}
    with zipfile.ZipFile(folder / f"{name}-{material.version}-py3-none-any.whl", "w") as archive:
        for member, text in members.items():
            archive.writestr(zipfile.ZipInfo(member), text)


__all__ = ["Surroundings", "lock_deps"]
