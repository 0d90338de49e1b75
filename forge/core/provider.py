"""Providers: the frozen records that targets hand to their dependents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from forge.core.artifact import Artifact
from forge.core.base_image import BaseImage
from forge.core.lock import Lock, Material
from forge.core.platform import ParameterValue, Platform


@dataclass(frozen=True, slots=True)
class Provider:
    """What every target hands on: its outputs, by the name that they have below `forge-out/<package>/`."""

    files: Mapping[str, Artifact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BaseInfo:
    """A vendor's image below everything else."""

    image: BaseImage
    """Its name and digest."""
    layout: Artifact
    """OCI image layout of it."""
    root: Artifact
    """Its file system as one tree: costly, so made only where something needs it."""


@dataclass(frozen=True, slots=True)
class EnvironmentInfo(Provider):
    """A locked root file system."""

    arch: str = ""
    tree: Artifact | None = None
    """Everything merged: the sandbox's root."""
    layers: tuple[tuple[str, Artifact], ...] = ()
    """The same, cut where its churn differs: (what it is, tree), lowest first."""
    locks: tuple[Lock, ...] = ()
    """The packages that it was unpacked from, its base's first."""
    built: tuple[WheelInfo, ...] = ()
    """Wheels in it that were built from source."""
    python: str = ""
    """Version of its interpreter."""
    glibc: str = ""
    """Version of its C library."""
    site: str = ""
    """Name of the folder in which its interpreter looks for packages."""
    base: BaseInfo | None = None
    """The image that its layers lie over; None where forge's own are all there is."""
    compiler: EnvironmentInfo | None = None
    """What the Python modules of its services are compiled in; None where they are compiled when they are imported."""

    @property
    def python_packages(self) -> tuple[Material, ...]:
        """List its Python packages; of those that were built, the archive that they were built from."""
        locked = [each for lock in self.locks if lock.kind == "python" for each in lock.materials]
        return (*locked, *(wheel.sdist for wheel in self.built if wheel.sdist is not None))


@dataclass(frozen=True, slots=True)
class WheelInfo(Provider):
    """A wheel that was built from source."""

    file: Artifact | None = None
    name: str = ""
    """File name, which says what it is and what it runs on."""
    sdist: Material | None = None
    """The archive that it was built from."""


@dataclass(frozen=True, slots=True)
class ModelInfo(Provider):
    """A model's files, in one format."""

    name: str = ""
    format: str = ""
    """`safetensors`, `gguf`, `onnx`."""
    tree: Artifact | None = None
    report: Artifact | None = None
    """JSON: how far a converted model is from its original."""
    precision: str = ""
    """What it was converted to, `f16` or `int8`; empty for a model as it came."""
    original: ModelInfo | None = None
    """The model that it was converted from."""
    lock: Lock | None = None
    """What it was fetched by."""


@dataclass(frozen=True, slots=True)
class AppInfo(Provider):
    """A service, or its client, composed for one platform."""

    environment: EnvironmentInfo | None = None
    model: ModelInfo | None = None
    """None for a client."""
    runtime: Artifact | None = None
    """Tree of the runtime's package."""
    app: Artifact | None = None
    """Tree of handler and data."""
    config: Artifact | None = None
    """config.json."""
    deps: Artifact | None = None
    """Tree of the handler's own Python packages; None where it needs none beside the platform's."""
    deps_lock: Lock | None = None
    """What they were unpacked from."""
    environ: tuple[tuple[str, str], ...] = ()
    params: Mapping[str, ParameterValue] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    workdir: str = "/"
    port: int = 0
    """Port that it listens on; 0 where it listens on none."""
    drain_s: float = 30.0
    """What it takes at most to finish what it has begun, when it is told to stop."""
    secrets: tuple[str, ...] = ()
    """Variables whose values are given when it runs."""
    not_secret: tuple[str, ...] = ()
    """Files of its own that look like secrets and are none."""


@dataclass(frozen=True, slots=True)
class ImageInfo(Provider):
    """An OCI image."""

    layout: Artifact | None = None
    """OCI image layout."""
    digest: Artifact | None = None
    """JSON that names the manifest's digest."""
    root: Artifact | None = None
    """The same file system as one tree."""
    entrypoint: tuple[str, ...] = ()
    environ: tuple[tuple[str, str], ...] = ()
    workdir: str = "/"
    port: int = 0
    """Port that it listens on; 0 where it listens on none."""
    arch: str = ""
    ref: str = ""
    """Name and tag that it is exported under."""
    sbom: Artifact | None = None
    """What it is made of, as CycloneDX."""
    platform: Platform | None = None
    """Where it runs."""
    app: AppInfo | None = None
    """What runs in it; None where forge does not know."""


@dataclass(frozen=True, slots=True)
class IndexInfo(Provider):
    """Images of several architectures under one name."""

    layout: Artifact | None = None
    """OCI image layout with an index below its own."""
    digest: Artifact | None = None
    """JSON that names the index's digest."""
    images: tuple[ImageInfo, ...] = ()
    ref: str = ""
    """Name and tag that it is exported under."""


@dataclass(frozen=True, slots=True)
class TestInfo(Provider):
    """A test's verdict, to be read once its action has run."""

    __test__ = False

    report: Artifact | None = None
    """JSON: {"passed": bool, "cases": [{"name", "passed", "message", "seconds"}]}."""
