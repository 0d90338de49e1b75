"""Locks: which files a set of requirements came to. Names and digests, never addresses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from forge.core.base_image import BaseImage
from forge.core.digest import Pin
from forge.core.image_name import ImageName
from forge.core.label import Label
from forge.core.model_source import ModelRequest
from forge.core.platform import Arch

Kind = Literal["deb", "python", "sdist", "model", "image"]

EVERY_ARCH: Final = "all"
"""What a lock says of files that are the same for every architecture, as Debian does."""


@dataclass(frozen=True, slots=True)
class Material:
    """One file that a lock names."""

    name: str
    """Package name as its archive spells it (normalised for Python)."""
    version: str
    file: str
    """File name: `numpy-2.4.1-cp311-…whl`, `libc6_2.36-9_amd64.deb`; of a model's file the path in its repository."""
    digest: Pin
    source: str
    """Source id, such as `pypi` or `debian`; `[sources]` says where that is."""
    path: str = ""
    """Where the file lies below its source, for those that are addressed so (a Debian pool path, a Hub's `resolve`)."""
    suite: str = ""
    """Debian suite that named it."""


@dataclass(frozen=True, slots=True)
class MissingMaterial:
    """One package that was asked for and could not be had where the lock was made."""

    name: str
    """Package name, normalised."""
    requirement: str
    """What was asked for: `torch==2.8.0`."""
    source: str
    """The source id that it must come from."""

    def __str__(self) -> str:
        return f"`{self.requirement}` of source `{self.source}`"


@dataclass(frozen=True, slots=True)
class Lock:
    """The files that `requested` was resolved to, for one architecture."""

    kind: Kind
    arch: str
    """Debian's name of the architecture: `amd64`, `arm64`; EVERY_ARCH for models."""
    requested: tuple[str, ...]
    """What was asked for, sorted; a lock whose request differs from the declaration is stale."""
    materials: tuple[Material, ...]
    """Sorted by name."""
    repository: str = ""
    """Of a model: `OWNER/NAME`, where its source has repositories."""
    revision: str = ""
    """Of a model: the commit, or the digest of the image that it is in."""
    released: tuple[tuple[str, str], ...] = ()
    """Of Debian packages: each suite's date, sorted; a lock is not made from an older state than the last one."""
    missing: tuple[MissingMaterial, ...] = ()
    """Those whose sources had no answer, sorted by name; nothing is built from such a lock."""
    image: BaseImage | None = None
    """What a lock of an image holds, in place of materials."""
    beside: tuple[str, ...] = ()
    """Of a target's own packages: those of its platform that they rest on, `name==version`, sorted."""

    def misfits(self, platform: Iterable[Material]) -> tuple[str, ...]:
        """Say in words why what is locked here does not fit into a platform with these packages; nothing if it does.

        A package that nothing here rests on may change without a word: only what was looked at makes a lock stale.
        """
        has = {each.name: each.version for each in platform}
        rests = (each.partition("==")[::2] for each in self.beside)
        found = [
            f"it rests on `{name}` {version}, the platform has {has.get(name, 'none')}"
            for name, version in rests
            if has.get(name) != version
        ]
        brings = ((each.name, each.version) for each in self.materials if each.name in has)
        return (*found, *(f"it brings `{name}` {version}, the platform has {has[name]}" for name, version in brings))


@dataclass(frozen=True, slots=True)
class LockRequest:
    """What a lock is to be resolved for."""

    name: str
    """The lock's file name, without what its kind adds."""
    kind: Kind
    arch: Arch | Literal["all"]
    requirements: tuple[str, ...] = ()
    """Package names or Python requirements."""
    exclude: tuple[str, ...] = ()
    """Packages cut from the closure."""
    python: str = ""
    """Version of the interpreter that the wheels are for: `3.11`."""
    glibc: str = "2.36"
    """Version of the C library that they run on."""
    image: ImageName | None = None
    """What a lock of an image is for, with the declared digest."""
    model: ModelRequest | None = None
    """What a lock of a model is for."""
    sources: tuple[tuple[str, str], ...] = ()
    """Python packages and the ids of the sources that they come from, and from nowhere else."""
    within: Label | None = None
    """Environment that the packages are added to: what it has bounds them, and is not in their lock."""

    @property
    def file(self) -> str:
        """Path of the lock, below the folder of the declaring file."""
        return f"{self.name}.lock.toml" if self.kind == "model" else f"locks/{self.name}.toml"

    @property
    def requested(self) -> tuple[str, ...]:
        """What the lock's own `requested` must be, or it is stale."""
        if self.model is not None:
            return self.model.requested
        if self.image is not None:
            return (str(self.image),)
        return requested(self.requirements, self.exclude, self.sources)

    def is_answered_by(self, lock: Lock | None) -> bool:
        """Say whether `lock` was made for this; one that was not is stale."""
        return lock is not None and (lock.kind, lock.arch, lock.requested) == (self.kind, self.arch, self.requested)


def requested(
    requirements: Iterable[str], exclude: Iterable[str] = (), sources: Iterable[tuple[str, str]] = ()
) -> tuple[str, ...]:
    """Spell a request as its lock keeps it: `numpy`, `-torchvision`, `torch from pytorch-cpu`."""
    pinned = (f"{name} from {source}" for name, source in sources)
    return tuple(sorted({*requirements, *(f"-{name}" for name in exclude), *pinned}))
