"""Packages that come from a source of their own, and from nowhere else.

A name that a private index has can be taken by a stranger on a public one, and an accelerator's index has other builds
under the version numbers of the public one. So a pinned package is looked for at its source alone, before anything is
resolved: what is not there is left out, and no other place is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forge.core.errors import MaterialError
from forge.core.lock import MissingMaterial
from forge.net.connection import Unavailable
from forge.packages.index_python import IndexFile, PackageIndex, normalize
from forge.packages.sources import Place, Sources
from forge.packages.target_python import PythonTarget, best_wheel, marker_environment

if TYPE_CHECKING:
    from packaging.requirements import Requirement

CPU_BUILDS: Mapping[str, str] = dict.fromkeys(("torch", "torchaudio", "torchvision"), "pytorch-cpu")
"""Source ids of packages whose `+cpu` versions are on no default index, unless a request says otherwise."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A package and the one place that it is taken from."""

    name: str
    source: str
    place: Place
    files: Mapping[str, IndexFile]
    """What the place offers, by file name."""


@dataclass(frozen=True, slots=True)
class Absent:
    """A package that its source does not give here."""

    material: MissingMaterial
    reasons: tuple[str, ...]
    """For each address of the source why not; empty where the source has none."""

    def __str__(self) -> str:
        tried = "".join(f"\n    {each}" for each in self.reasons) or " it has no address"
        return f"{self.material} cannot be had here and is left out:{tried}"


@dataclass(frozen=True, slots=True)
class Pinned:
    """A request, sorted by where its packages come from."""

    requirements: tuple[str, ...]
    """All that can be resolved here."""
    ids: Mapping[str, str]
    """Package -> source id, of all that have one of their own."""
    pins: tuple[Pin, ...]
    absent: tuple[Absent, ...]


class SourcePins:
    """Finds the packages of a request at their sources."""

    def __init__(self, chosen: Mapping[str, str], target: PythonTarget, sources: Sources, index: PackageIndex) -> None:
        self._chosen = {normalize(name): source for name, source in chosen.items()}
        self._target, self._sources, self._index = target, sources, index
        self._folders = [each.folder for each in sources.places("pypi") if each.kind == "links" and each.folder]

    def sort(self, requirements: Iterable[str]) -> Pinned:
        """Sort `requirements`; what is pinned and not among them is asked for too."""
        by_name: dict[str, list[Requirement]] = {name: [] for name in self._chosen}
        for text in requirements:
            requirement = parse_requirement(text)
            by_name.setdefault(normalize(requirement.name), []).append(requirement)
        kept: list[str] = []
        ids: dict[str, str] = {}
        pins: list[Pin] = []
        absent: list[Absent] = []
        for name, asked in sorted(by_name.items()):
            texts = [str(each) for each in asked] or [name]
            wanted = [each for each in asked if each.marker is None or each.marker.evaluate(self._environment())]
            source = self._chosen.get(name) or _default(name, wanted)
            if asked and not wanted:
                continue  # its markers speak of other machines
            if source:
                ids[name] = source
            if source and not self._has_folder(name, wanted):
                found = self._find(name, wanted, source)
                if isinstance(found, Absent):
                    absent.append(found)
                    continue
                pins.append(found)
            kept += texts
        return Pinned(tuple(sorted(kept)), ids, tuple(pins), tuple(absent))

    def _find(self, name: str, wanted: list[Requirement], source: str) -> Pin | Absent:
        reasons = []
        for place in self._sources.places(source):
            try:
                files = self._offered(place, name)
            except Unavailable as error:
                reasons.append(f"{place}: {error}")
                continue
            if self._fits(files, name, wanted):
                return Pin(name, source, place, files)
            reasons.append(f"{place}: has no wheel of it for {self._target}")
        text = ", ".join(map(str, wanted)) or name
        return Absent(MissingMaterial(name, text, source), tuple(reasons))

    def _offered(self, place: Place, name: str) -> Mapping[str, IndexFile]:
        if place.kind != "links":
            return self._index.files(place.address, name)
        if place.folder is None:
            return self._index.linked(place.address)
        return {each.name: IndexFile(str(each)) for each in place.folder.glob("*.whl")}

    def _fits(self, files: Iterable[str], name: str, wanted: list[Requirement]) -> bool:
        from packaging.utils import InvalidWheelFilename, parse_wheel_filename

        for file in files:
            try:
                found, version, _, _ = parse_wheel_filename(file)
            except InvalidWheelFilename:
                continue
            admitted = all(each.specifier.contains(version, prereleases=True) for each in wanted)
            if found == name and admitted and best_wheel([file], self._target):
                return True
        return False

    def _has_folder(self, name: str, wanted: list[Requirement]) -> bool:
        """Say whether a folder of find-links stands in: for a `+local` version, which says whose build it is."""
        versions = [_exact(each) for each in wanted]
        return bool(versions) and all(
            "+" in each and _holds(self._folders, f"{name}-{each}-*.whl") for each in versions
        )

    def _environment(self) -> dict[str, str]:
        return marker_environment(self._target)


def parse_requirement(text: str) -> Requirement:
    """Read one requirement (PEP 508); MaterialError when it is none."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise MaterialError(f"`{text}` is no requirement: {error}") from error


def _default(name: str, wanted: list[Requirement]) -> str:
    return CPU_BUILDS.get(name, "") if any(_exact(each).endswith("+cpu") for each in wanted) else ""


def _exact(requirement: Requirement) -> str:
    """Take the version of `==version`; empty where more than one would do."""
    (only, *others) = [*requirement.specifier] or [None]
    return only.version if only is not None and not others and only.operator in ("==", "===") else ""


def _holds(folders: Iterable[Path], pattern: str) -> bool:
    return any(True for folder in folders for _ in folder.glob(pattern))
