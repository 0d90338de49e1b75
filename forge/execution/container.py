"""Containers, and what an engine that runs them can do."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

LABEL: Final = "forge.session"
"""Label of every container of forge's: whose it is."""
OWNER_LABEL: Final = "forge.owner"
"""Label that names its store."""
KEPT_LABEL: Final = "forge.kept"
"""Label of a container that is left to be looked at."""


@dataclass(frozen=True, slots=True)
class Container:
    """What one container is: no network and no capability."""

    image: str
    argv: tuple[str, ...] = ("/none",)
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    """User and group; empty for the image's own."""
    workdir: str = "/"
    labels: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    """Folders that are volumes of its own, which go with it."""
    read_only: bool = True
    """Whether its root is; an engine unpacks nothing in such a container."""
    mounts: tuple[tuple[str, str, bool], ...] = ()
    """Volumes of others: name, folder, whether it may write."""


class ContainerEngine(Protocol):
    """What runs containers, on this machine or another; it shares no disk with forge."""

    @property
    def arch(self) -> str:
        """Architecture of what it runs, by Docker's name."""

    def has_image(self, name: str) -> bool:
        """Say whether it has an image."""

    def import_image(self, name: str, chunks: Iterator[bytes]) -> None:
        """Make an image of a tar archive."""

    def images(self, repository: str) -> list[str]:
        """List the names of the images of a repository."""

    def remove_image(self, name: str) -> bool:
        """Remove an image; False where something needs it."""

    def create(self, container: Container) -> str:
        """Make a container, which does not run yet; its id."""

    def volumes(self, name: str) -> Mapping[str, str]:
        """Name a container's volumes by folder."""

    def put(self, name: str, chunks: Iterator[bytes]) -> None:
        """Unpack a tar archive at a container's root."""

    def run(self, name: str, timeout: int, output: Callable[[bytes], None]) -> int | None:
        """Run a container to its end; its exit code, or None when its time was up."""

    def take(self, name: str, path: str) -> Iterator[bytes]:
        """Read a folder of a container as a tar archive with that folder at its top."""

    def kill(self, name: str) -> None:
        """End a container at once, if it runs."""

    def remove(self, name: str) -> None:
        """End a container and remove it with its volumes; nothing where it is gone."""

    def containers(self) -> list[tuple[str, Mapping[str, str]]]:
        """List forge's containers, ended or not, with their labels."""


def owner_of(home: str) -> str:
    """Name a store, as others who share the engine can tell it from theirs."""
    return f"{os.uname().nodename}:{home}"


def labels_of(home: str, session: str, until: int) -> dict[str, str]:
    """Label a container: by these a later forge knows what an earlier one has left."""
    return {LABEL: session, OWNER_LABEL: owner_of(home), "forge.until": str(until)}


def is_left(labels: Mapping[str, str], home: str, sessions: Collection[str], now: float) -> bool:
    """Say whether whoever made a container is gone: its session is none of those that live, or its time is long up."""
    if KEPT_LABEL in labels:
        return False
    until = labels.get("forge.until", "")
    if until.isdecimal() and int(until) < now:
        return True
    return labels.get(OWNER_LABEL) == owner_of(home) and labels.get(LABEL) not in sessions
