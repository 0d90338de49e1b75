"""The Python that wheels are chosen for, which is never the one that runs forge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from packaging.tags import Tag

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_FIRST_GLIBC = {"amd64": 5, "arm64": 17}
"""The oldest glibc 2.x that manylinux knows for the machine (PEP 600)."""
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_UV_PLATFORMS = (17, 28, *range(31, 41))
"""The glibc versions that uv has a platform for."""


@dataclass(frozen=True, slots=True)
class PythonTarget:
    """CPython on a Linux with glibc."""

    arch: Literal["amd64", "arm64"] = "amd64"
    python: str = "3.11"
    glibc: int = 36
    """Minor version: Debian bookworm has 2.36, Ubuntu 22.04 (JetPack 6) 2.35."""

    @property
    def machine(self) -> str:
        """The kernel's name of the architecture."""
        return _MACHINES[self.arch]

    @property
    def uv_platform(self) -> str:
        """uv's name of the newest platform that is not newer than this target."""
        minor = max((each for each in _UV_PLATFORMS if each <= self.glibc), default=_UV_PLATFORMS[0])
        return f"{_MACHINES[self.arch]}-manylinux_2_{minor}"

    def __str__(self) -> str:
        return f"Python {self.python} on {self.arch} with glibc 2.{self.glibc}"


@lru_cache(maxsize=8)
def target_tags(target: PythonTarget) -> tuple[Tag, ...]:
    """List the tags of the wheels that run on `target`, the best first."""
    from packaging.tags import compatible_tags, cpython_tags

    major, minor = map(int, target.python.split("."))
    interpreter, platforms = f"cp{major}{minor}", list(_platforms(target))
    return (
        *cpython_tags((major, minor), abis=[interpreter], platforms=platforms),
        *compatible_tags((major, minor), interpreter=interpreter, platforms=platforms),
    )


def marker_environment(target: PythonTarget) -> dict[str, str]:
    """Say what environment markers (PEP 508) mean on `target`."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{target.python}.0",
        "os_name": "posix",
        "platform_machine": target.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{target.python}.0",
        "python_version": target.python,
        "sys_platform": "linux",
        "extra": "",
    }


def best_wheel(files: Iterable[str], target: PythonTarget) -> str | None:
    """Pick the file name of the wheel that suits `target` best; None when none does."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    rank = {tag: position for position, tag in reversed(list(enumerate(target_tags(target))))}
    ranked = []
    for file in files:
        try:
            _, _, build, tags = parse_wheel_filename(file)
        except InvalidWheelFilename:
            continue
        if fitting := [rank[tag] for tag in tags if tag in rank]:
            # Of equal tags the highest build number (PEP 427), then the name, so that order cannot matter.
            ranked.append((-min(fitting), build, file))
    return max(ranked)[2] if ranked else None


def _platforms(target: PythonTarget) -> Iterator[str]:
    machine = _MACHINES[target.arch]
    for minor in range(target.glibc, _FIRST_GLIBC[target.arch] - 1, -1):
        yield f"manylinux_2_{minor}_{machine}"
        if minor in _LEGACY:
            yield f"{_LEGACY[minor]}_{machine}"
    yield f"linux_{machine}"
