"""What `forge run` and `forge shell` put around a program: folders, variables, devices, a network."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from forge.cli.mounts_file import read_mounts
from forge.core.errors import UsageError
from forge.execution.docker_run import DockerRun
from forge.execution.mount import Mount

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = [
    click.option("--docker/--nodocker", default=None, help="In a container [default: with --executor=docker]."),
    click.option("--volume", "-v", multiple=True, metavar="SOURCE:TARGET[:ro]", help="Folder of this machine to see."),
    click.option(
        "--mounts-file", metavar="FILE", help='More of them, as {"Mounts": [{"source": …, "destination": …}]}.'
    ),
    click.option("--gpus", metavar="all|0,1", help="GPUs of a container."),
    click.option("--shm-size", metavar="SIZE", help="Shared memory of a container, such as 16g."),
    click.option("--user", metavar="UID[:GID]", help="User of a container."),
    click.option("--run-as-user", is_flag=True, default=None, help="Be whoever calls forge in a container."),
    click.option("--ulimit", multiple=True, metavar="NAME=SOFT[:HARD]", help="Limit of a container."),
    click.option("--publish", "-p", multiple=True, metavar="PORT:PORT", help="More ports of a container."),
    click.option("--network", metavar="NAME", help="`host`, `none`, or a network of Docker's."),
    click.option("--no-tty", is_flag=True, default=None, help="No terminal, though there is one."),
    click.option("--dry-run", is_flag=True, default=None, help="Print the command line, and run nothing."),
]
_CONTAINER = ("gpus", "shm_size", "user", "run_as_user", "ulimit", "publish")
"""What only an engine can give."""


def surroundings(function: F) -> F:
    """Add the options."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What flags say."""

    docker: bool
    mounts: tuple[Mount, ...]
    gpus: str
    shm_size: str
    user: str
    ulimits: tuple[str, ...]
    publish: tuple[str, ...]
    network: str
    has_terminal: bool
    is_dry: bool

    @classmethod
    def take(cls, flags: dict[str, Any], executor: str, environ: Mapping[str, str]) -> Surroundings:
        """Take the options out of flags; UsageError for what cannot be had in a sandbox."""
        given = {name: flags.pop(name) for name in _names()}
        docker = given["docker"]
        if docker is None:
            docker = (flags.get("executor") or executor) == "docker"
        refused = [name for name in _CONTAINER if given[name]]
        if given["network"] not in (None, "host", "none"):
            refused.append("network")
        if refused and not docker:
            option = f"--{refused[0].replace('_', '-')}"
            raise UsageError(f"`{option}` is for a container, this is a sandbox", hint="Add `--docker`")
        if given["user"] and given["run_as_user"]:
            raise UsageError("`--user` and `--run-as-user` name two users")
        mounts = [volume(text, docker=docker) for text in given["volume"]]
        if file := given["mounts_file"] or environ.get("FORGE_MOUNTS_FILE"):
            mounts += read_mounts(Path(file).expanduser())
        return cls(
            docker,
            tuple(mounts),
            given["gpus"] or "",
            given["shm_size"] or "",
            f"{os.getuid()}:{os.getgid()}" if given["run_as_user"] else given["user"] or "",
            given["ulimit"],
            given["publish"],
            given["network"] or "",
            not given["no_tty"] and sys.stdin.isatty() and sys.stdout.isatty(),
            bool(given["dry_run"]),
        )

    def container(self, image: str, **more: Any) -> DockerRun:
        """Put them around a container of an image."""
        return DockerRun(
            image,
            gpus=self.gpus,
            shm_size=self.shm_size,
            ulimits=self.ulimits,
            has_terminal=self.has_terminal,
            **{"user": self.user, "mounts": self.mounts, "publish": self.publish, "network": self.network, **more},
        )


def volume(text: str, *, docker: bool) -> Mount:
    """Read `SOURCE:TARGET[:ro|rw]`; a source without a slash is the name of a volume, which an engine alone has."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not source or not target.startswith("/") or mode not in ("", "ro", "rw"):
        raise UsageError(f"`--volume {text}` is no SOURCE:TARGET[:ro]", hint="Such as --volume ~/data:/data:ro")
    if "/" in source or source in (".", "..", "~"):
        path = Path(source).expanduser().absolute()
        if not path.exists():
            raise UsageError(f"`{source}` of `--volume` is not there", hint="Make it, or name another")
        source = os.path.normpath(path)
    elif not docker:
        raise UsageError(
            f"`{source}` is a volume of Docker's, this is a sandbox", hint=f"Add `--docker`, or `./{source}`"
        )
    return Mount(source, target, mode != "ro")


def _names() -> list[str]:
    @surroundings
    def sample() -> None:
        """Carry the options."""

    return [str(option.name) for option in sample.__click_params__]  # type: ignore[attr-defined]
