"""The local Docker engine, by its command: which images it has, and giving it one more."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from forge.core.errors import HostError

_HINT: Final = "`forge image export LABEL --format=docker --to=FILE` writes what an engine elsewhere can load"
_PATIENCE: Final = 60
"""Seconds for a question to the engine."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Docker's command, and the environment that says which engine it speaks to."""

    environ: Mapping[str, str] = field(repr=False)
    program: str = "docker"

    def images(self) -> frozenset[str]:
        """Name the images that it has, `sha256:…`: of a manifest where its store is containerd's, else of a config."""
        output = self._ask("image", "ls", "--all", "--quiet", "--no-trunc")
        return frozenset(output.split())

    def image(self, ref: str) -> str:
        """Name the image that a reference means there; empty where it means none."""
        with suppress(HostError):
            return self._ask("image", "inspect", "--format", "{{.Id}}", ref).strip()
        return ""

    def api(self) -> tuple[int, int]:
        """Tell the version of the API that it and this command share."""
        major, _, minor = self._ask("version", "--format", "{{.Client.APIVersion}}").strip().partition(".")
        return int(major), int(minor)

    def load(self, write: Callable[[BinaryIO], None]) -> None:
        """Give it an archive, as it is written; HostError when it takes none."""
        with tempfile.TemporaryFile() as log:
            try:
                process = subprocess.Popen(
                    [self.program, "load"], stdin=subprocess.PIPE, stdout=log, stderr=log, env=dict(self.environ)
                )
            except OSError as error:
                raise HostError(f"`{self.program}` cannot be run: {error.strerror}", hint=_HINT) from error
            try:
                assert process.stdin is not None
                # One that has had enough hangs up: its exit code says whether that was well.
                with suppress(BrokenPipeError), process.stdin as out:
                    write(out)  # type: ignore[arg-type]
                code = process.wait()
            except BaseException:
                process.kill()
                process.wait()
                raise
            if code:
                log.seek(0)
                said = log.read().decode(errors="replace").strip()
                raise HostError(f"`{self.program} load` ends with {code}: {said[-2000:]}", hint=_HINT)

    def _ask(self, *words: str) -> str:
        try:
            done = subprocess.run(
                [self.program, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
                env=dict(self.environ),
                check=False,
            )
        except OSError as error:
            raise HostError(f"`{self.program}` cannot be run: {error.strerror}", hint=_HINT) from error
        except subprocess.TimeoutExpired as error:
            raise HostError(f"`{self.program}` does not answer within {_PATIENCE} s", hint=_HINT) from error
        if done.returncode:
            raise HostError(
                f"`{self.program} {words[0]}` ends with {done.returncode}: {done.stderr.strip()}", hint=_HINT
            )
        return done.stdout
