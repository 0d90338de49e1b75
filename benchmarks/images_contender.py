"""Who makes images in `images.py`: forge with either assembler, and `docker buildx` with a Dockerfile of one's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Contender", "Forge", "Plain", "quietly"]

ROOT = Path(__file__).resolve().parent.parent
FORGEW = ROOT / "forgew"


def quietly(argv: Sequence[str], cwd: Path = ROOT, environ: Mapping[str, str] | None = None) -> str:
    """Run a command; its standard output. SystemExit with all that it said when it fails."""
    done = subprocess.run(argv, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Contender(ABC):
    """Makes the image of one service, and puts it into the local engine."""

    name: str
    folder: Path
    """What is its own: caches, sources. It may be emptied of all but the sources."""
    platform: str = "amd64"

    @property
    def image(self) -> str:
        """Name of the image in the engine."""
        return f"forge-benchmark/{self.name}:{self.platform}"

    @property
    @abstractmethod
    def handler(self) -> Path:
        """The file that people edit."""

    @abstractmethod
    def build(self) -> None:
        """Make the image and have it in the engine."""

    @abstractmethod
    def forget(self) -> None:
        """Forget all that was built, but for what the engine has."""


@dataclass(frozen=True, slots=True)
class Forge(Contender):
    """`forge load`. What is to be downloaded lies in a vendored folder, and the store has the base's Debian packages,
    unpacked, as the engine has the Dockerfile's base image.
    """

    target: str = "//service:cpu_onnx"
    assembler: str = "embedded"

    @property
    def handler(self) -> Path:
        return self.folder / "workspace" / "targets" / "service" / "handler.py"

    @property
    def home(self) -> Path:
        """Its store."""
        return self.folder / "home"

    def build(self) -> None:
        self._forge(self.home, "load", self.target, f"--ref={self.image}", f"--assembler={self.assembler}")

    def prepare(self) -> None:
        """Make the store that each cold build begins with."""
        self._forge(self.folder / "base", "build", f"//toolchains:python311@{self.platform}")

    def forget(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.rmtree(self.folder / "workspace" / "forge-out", ignore_errors=True)
        quietly(["cp", "--archive", "--link", str(self.folder / "base"), str(self.home)])

    def _forge(self, home: Path, *words: str) -> None:
        quietly([str(FORGEW), *words, "--offline"], self.folder / "workspace", {**os.environ, "FORGE_HOME": str(home)})


@dataclass(frozen=True, slots=True)
class Plain(Contender):
    """`docker buildx build` of `images_workspace/Dockerfile`; base image and wheels are at hand."""

    wheels: Path = Path()
    base: str = ""
    compression: str = "gzip"

    @property
    def handler(self) -> Path:
        return self.folder / "context" / "app" / "handler.py"

    def build(self) -> None:
        output = f"type=image,name=docker.io/{self.image},oci-mediatypes=true,compression={self.compression}"
        words = [f"--output={output},force-compression=true", "--provenance=false", "--network=none", "--pull=false"]
        words += [f"--platform=linux/{self.platform}", f"--build-context=wheels={self.wheels}"]
        context = self.folder / "context"
        quietly(["docker", "buildx", "build", *words, f"--build-arg=BASE={self.base}", str(context)], context)

    def forget(self) -> None:
        """It has nothing of its own: the builder's cache is the engine's."""
