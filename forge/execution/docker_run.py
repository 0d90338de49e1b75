"""The argument vector of `docker run`: words, never a line that a shell reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from forge.execution.mount import Mount

GPUS_SINCE: Final = (1, 40)
"""Newest version of the API whose engines are given GPUs by NVIDIA's runtime, and not by `--gpus`."""


@dataclass(frozen=True, slots=True)
class DockerRun:
    """One container to be run in the foreground: gone when it ends, its root to read only, without capabilities."""

    image: str
    name: str = ""
    argv: tuple[str, ...] = ()
    """What follows the image's own entry point; instead of that where `is_whole`."""
    is_whole: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    """Variables whose values Docker takes from its own environment."""
    mounts: tuple[Mount, ...] = ()
    gpus: str = ""
    """`all`, or devices: `0,1`."""
    publish: tuple[str, ...] = ()
    shm_size: str = ""
    user: str = ""
    ulimits: tuple[str, ...] = ()
    network: str = ""
    """Empty for Docker's own choice."""
    workdir: str = ""
    has_terminal: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    def line(self, api: tuple[int, int], program: str = "docker") -> list[str]:
        """Write the words, for an engine with this version of the API."""
        line = [program, "run", "--rm", "--init", "--interactive"]
        line += ["--tty"] if self.has_terminal else []
        line += [f"--name={self.name}"] if self.name else []
        line += [f"--label={name}={value}" for name, value in sorted(self.labels.items())]
        # What an image of forge's can do without, and `forge run` in the sandbox does not give.
        line += ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        line += self._gpus(api)
        line += [f"--mount={_mount(each)}" for each in self.mounts]
        line += [f"--env={name}={value}" for name, value in self.env.items()]
        line += [f"--env={name}" for name in self.secrets]
        for option, value in (("network", self.network), ("shm-size", self.shm_size), ("user", self.user)):
            line += [f"--{option}={value}"] if value else []
        line += [f"--ulimit={each}" for each in self.ulimits]
        line += [f"--publish={each}" for each in self.publish]
        line += [f"--workdir={self.workdir}"] if self.workdir else []
        if self.is_whole and self.argv:
            return [*line, f"--entrypoint={self.argv[0]}", self.image, *self.argv[1:]]
        return [*line, self.image, *self.argv]

    def _gpus(self, api: tuple[int, int]) -> list[str]:
        if not self.gpus:
            return []
        if api <= GPUS_SINCE:
            return ["--runtime=nvidia", f"--env=NVIDIA_VISIBLE_DEVICES={self.gpus}"]
        # Docker reads the value as comma-separated fields: several devices are one field, in quotes.
        return [f"--gpus={self.gpus}" if self.gpus == "all" else f'--gpus="device={self.gpus}"']


def _mount(mount: Mount) -> str:
    kind = "bind" if mount.source.startswith("/") else "volume"
    fields = [f"type={kind}", f"source={mount.source}", f"target={mount.target}"]
    fields += [] if mount.writable else ["readonly"]
    return ",".join(f'"{each.replace(chr(34), chr(34) * 2)}"' if set(each) & set(',"\n') else each for each in fields)
