"""A container engine that runs nothing: it notes what it was asked for, and says what a test wants."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from forge.execution.container import Container


@dataclass
class FakeEngine:
    """Containers are numbered; their output folder holds `files`."""

    arch: str = "amd64"
    code: int | None = 0
    said: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)
    running: Callable[[str], None] = lambda name: None
    """Called while a container runs."""
    known: dict[str, list[tarfile.TarInfo]] = field(default_factory=dict)
    """Images, and what is in them."""
    alive: dict[str, Container] = field(default_factory=dict)
    """Containers that are there."""
    made: list[Container] = field(default_factory=list)
    given: list[tarfile.TarInfo] = field(default_factory=list)
    """What was put into containers."""
    killed: list[str] = field(default_factory=list)

    def has_image(self, name: str) -> bool:
        return name in self.known

    def import_image(self, name: str, chunks: Iterator[bytes]) -> None:
        self.known[name] = members(chunks)

    def images(self, repository: str) -> list[str]:
        return [name for name in self.known if name.partition(":")[0] == repository]

    def remove_image(self, name: str) -> bool:
        return self.known.pop(name, None) is not None

    def create(self, container: Container) -> str:
        name = f"c{len(self.made)}"
        self.made.append(container)
        self.alive[name] = container
        return name

    def volumes(self, name: str) -> Mapping[str, str]:
        return {path: f"{name}{path}" for path in self.alive[name].volumes}

    def put(self, name: str, chunks: Iterator[bytes]) -> None:
        self.given += members(chunks)

    def run(self, name: str, timeout: int, output: Callable[[bytes], None]) -> int | None:
        self.running(name)
        output(self.said)
        return self.code

    def take(self, name: str, path: str) -> Iterator[bytes]:
        assert name in self.alive
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            for file, content in self.files.items():
                info = tarfile.TarInfo(f"out/{file}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        yield data.getvalue()

    def kill(self, name: str) -> None:
        self.killed.append(name)

    def remove(self, name: str) -> None:
        self.alive.pop(name, None)

    def containers(self) -> list[tuple[str, Mapping[str, str]]]:
        return [(name, container.labels) for name, container in self.alive.items()]


def members(chunks: Iterator[bytes]) -> list[tarfile.TarInfo]:
    """List what is in an archive."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        return archive.getmembers()
