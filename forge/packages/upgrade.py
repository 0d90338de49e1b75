"""Which packages of a lock may change their version."""

from __future__ import annotations

from dataclasses import dataclass

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
        names = {spelled for each in self.packages for spelled in (each, normalize(each))}
        return tuple(each for each in previous.materials if each.name not in names)


NOTHING = Upgrade()
