"""Which packages of a lock may change their version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from forge.core.errors import Fault, MaterialError
from forge.core.lock import Lock, Material
from forge.packages.index_python import normalize


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What is resolved anew; all else keeps its version where that still fits."""

    everything: bool = False
    packages: frozenset[str] = frozenset()
    """Names of Python or Debian packages."""

    def kept(self, previous: Lock | None) -> tuple[Material, ...]:
        """List the materials of `previous` whose versions are to stay."""
        if previous is None or self.everything:
            return ()
        return tuple(each for each in previous.materials if not self._names(each))

    def concerns(self, previous: Lock | None) -> bool:
        """Say whether anything of `previous` is to be resolved anew."""
        return self.everything or (previous is not None and any(map(self._names, previous.materials)))

    def check(self, previous: Lock | None, materials: Iterable[Material]) -> None:
        """Refuse files whose bytes changed under a version that is to stay; MaterialError names each."""
        kept = {(each.name, each.version, each.file): each for each in self.kept(previous)}
        faults = []
        for each in materials:
            was = kept.get((each.name, each.version, each.file))
            if was is not None and was.digest != each.digest:
                text = f"`{each.file}` was replaced: locked is sha256 {was.digest.hash}, now offered {each.digest.hash}"
                faults.append(Fault(text, hint=f"If that is right: `forge lock --upgrade-package {each.name}`"))
        if faults:
            raise MaterialError(faults[0], *faults[1:])

    def _names(self, material: Material) -> bool:
        return any(material.name in (each, normalize(each)) for each in self.packages)


NOTHING = Upgrade()
