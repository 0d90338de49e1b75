"""Platforms, and the toolchains that bind them to materials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from forge.core.compatibility import CompatibilityRow
from forge.core.label import Label

Arch = Literal["amd64", "arm64"]
"""Architectures, as Debian and OCI call them."""

ARCHITECTURES: tuple[Arch, ...] = ("amd64", "arm64")

ParameterType = Literal["int", "float", "bool", "str"]
ParameterValue = int | float | bool | str


@dataclass(frozen=True, slots=True)
class Platform:
    """A named set of constraint values.

    The target platform is where an image runs, the execution platform where an action runs. A bare
    architecture (`amd64`) is a platform too: it has no device.
    """

    name: str
    arch: Arch
    """Debian's and OCI's name: `amd64`, `arm64`."""
    device: str = ""
    accelerator: str = "none"
    backend: str = ""
    driver: str = ""
    """Version of NVIDIA's driver that its machines have at least; empty where that is not said."""
    jetpack: str = ""
    """Of a Jetson: version of NVIDIA's system, which fixes driver and CUDA. What is for it is for no other machine."""

    @property
    def is_service(self) -> bool:
        """Say whether something is served on it; a bare architecture is none."""
        return bool(self.device)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One setting that a backend takes."""

    name: str
    type: ParameterType
    default: ParameterValue
    doc: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    def fault(self, value: ParameterValue) -> str:
        """Say in words what is wrong with `value`, or nothing."""
        if not self._fits(value):
            shown = str(value).lower() if isinstance(value, bool) else value
            return f"`{self.name}` must be {_WORDS[self.type]}, not `{shown}`"
        if self.choices and value not in self.choices:
            return f"`{self.name}` must be one of [{', '.join(self.choices)}], not `{value}`"
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if self.minimum is not None and value < self.minimum:
                return f"`{self.name}` must be at least {self.minimum:g}, not {value}"
            if self.maximum is not None and value > self.maximum:
                return f"`{self.name}` must be at most {self.maximum:g}, not {value}"
        return ""

    def _fits(self, value: ParameterValue) -> bool:
        if self.type == "bool" or isinstance(value, bool):
            return self.type == "bool" and isinstance(value, bool)
        if self.type == "float":
            return isinstance(value, (int, float)) and abs(value) <= _LARGEST
        return isinstance(value, int if self.type == "int" else str)


@dataclass(frozen=True, slots=True)
class Backend:
    """An inference engine: what it loads and which parameters it takes."""

    name: str
    """Short name in platform names: `trf`."""
    module: str
    """Module below `forge_runtime.backends`: `transformers`."""
    formats: tuple[str, ...]
    """Model formats that it loads, best first."""
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What binds a platform to materials."""

    platform: Platform
    base: Label
    """Environment below everything else in the image."""
    environment: Label
    """Base and the platform's Python packages, merged."""
    backend: Backend | None
    python: str = "3.11"
    """Version of the interpreter in `environment`."""
    environ: tuple[tuple[str, str], ...] = ()
    """Variables of every service of the device, sorted."""
    place: str = ""
    """File that declares it."""
    compatibility: tuple[CompatibilityRow, ...] = ()
    """What goes together, for all platforms."""


_LARGEST = 1.7976931348623157e308
"""What JSON can say; `inf` and `nan`, which TOML has, it cannot."""
_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
