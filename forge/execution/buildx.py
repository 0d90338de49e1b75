"""`docker buildx build`, for those who have it: finds a builder, hands folders over, takes the layout back.

The only work of forge that is done by a program from outside. It is not in the sandbox: BuildKit has one of its own for
the steps of a Dockerfile, and the program must reach its builder, wherever that is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from forge.core.digest import Digest
from forge.core.errors import ActionFailed, HostError
from forge.core.image_build import ImageBuild, Layout, comma_separated, words
from forge.core.tree import Entry, File, Tree
from forge.execution.home import host_errors
from forge.execution.materialize import write_tree
from forge.execution.process import ProcessGroup
from forge.execution.scratch import remove
from forge.execution.store import LocalStore

_TIMEOUT = 4 * 3600
_LOG_LINES = 40
_UNREACHABLE = ("Cannot connect to the Docker daemon", "permission denied while trying to connect", 'no builder "')
_PATHS = "blobs/sha256/"


@dataclass(frozen=True, slots=True)
class BuildxSettings:
    """Which builder, and what it may keep where. None of it changes what comes out, so none of it is in a key."""

    builder: str = ""
    """Name of a builder; empty for the one that `docker buildx use` chose."""
    driver: str = ""
    """With which the builder is made if it is not there: `docker-container`, `kubernetes`, `remote`."""
    driver_opts: tuple[tuple[str, str], ...] = ()
    endpoint: str = ""
    """Docker context, Kubernetes context or address that the builder is made for."""
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    """As buildx reads them; `{name}` becomes the image's name."""


@dataclass(slots=True)
class Buildx:
    """Runs `docker buildx`."""

    store: LocalStore
    settings: BuildxSettings
    environ: Mapping[str, str]
    processes: ProcessGroup
    logs: Path
    """Folder that has what buildx said of each image when it was last built."""
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _program: str = ""

    @property
    def version(self) -> str:
        """Name the versions that an image depends on; `none` where there is no buildx."""
        try:
            program = self._ready()
        except HostError:
            return "none"
        buildx = _ask(program, "buildx", "version", env=self.environ)
        found = _version(buildx, _ask(program, *self._builder("inspect"), env=self.environ))
        if " docker " not in f"{found} ":
            return found
        return f"{found} {_ask(program, 'version', '--format={{.Server.Version}}', env=self.environ)}"

    def build(self, build: ImageBuild) -> Tree:
        """Build; the OCI layout that came out, its blobs in the store."""
        program = self._ready()
        secrets = self._secrets(build.secrets)
        base = self.store.scratch.subfolder()
        try:
            with host_errors(base):
                folders = self._lay_out(base, build)
                (base / "Dockerfile").write_bytes(build.dockerfile)
            line = [program, *self._builder("build"), *self._caches(build.name), *secrets]
            line += words(build, folders=folders, out=str(base / "out"), dockerfile=str(base / "Dockerfile"))
            with host_errors(base):
                code = self.processes.run(line, env=self.environ, log=base / "log", timeout=_TIMEOUT)
                log = self._masked((base / "log").read_text(errors="replace"), build.secrets)
                self.logs.mkdir(parents=True, exist_ok=True)
                (self.logs / f"{build.name}.log").write_text(log)
            if code != 0:
                raise self._failure(code, log)
            return self._take(base / "out")
        finally:
            remove(base)

    def _ready(self) -> str:
        """Find the program, and make the builder if it is to be made; HostError when that cannot be."""
        with self._guard:
            if self._program:
                return self._program
            program = shutil.which("docker", path=self.environ.get("PATH", os.defpath))
            hint = "Install Docker with its plugin buildx, or take the assembler `embedded`"
            if program is None:
                raise HostError("Images are to be built by buildx, and there is no `docker`", hint=hint)
            if not _ask(program, "buildx", "version", env=self.environ):
                raise HostError(f"`{program}` has no plugin buildx", hint=hint)
            if self.settings.driver and not _ask(program, *self._builder("inspect"), env=self.environ):
                self._create(program)
            self._program = program
            return program

    def _create(self, program: str) -> None:
        settings = self.settings
        line = [program, "buildx", "create", f"--driver={settings.driver}"]
        line += [f"--name={settings.builder}"] if settings.builder else []
        line += [f"--driver-opt={comma_separated([f'{name}={value}'])}" for name, value in settings.driver_opts]
        line += [settings.endpoint] if settings.endpoint else []
        done = subprocess.run(line, env=dict(self.environ), capture_output=True, text=True, check=False)
        if done.returncode:
            text = f"The builder `{settings.builder}` cannot be made: {done.stderr.strip()}"
            raise HostError(text, hint="See `[buildx]` in WORKSPACE.toml")

    def _builder(self, command: str) -> list[str]:
        return ["buildx", command, *([f"--builder={self.settings.builder}"] if self.settings.builder else [])]

    def _caches(self, name: str) -> list[str]:
        found = [f"--cache-from={each}" for each in self.settings.cache_from]
        return [each.replace("{name}", name) for each in [*found, *(f"--cache-to={x}" for x in self.settings.cache_to)]]

    def _secrets(self, names: tuple[str, ...]) -> list[str]:
        """Say where the values are; they themselves are in no argument."""
        found = []
        for name in names:
            if name in self.environ:
                found.append(f"--secret={comma_separated([f'id={name}', f'env={name}'])}")
            elif (path := self.environ.get(f"{name}_FILE")) and os.path.isfile(path):
                found.append(f"--secret={comma_separated([f'id={name}', f'src={path}'])}")
            else:
                hint = f"Set it in the environment, or the path of a file that holds it as `{name}_FILE`"
                raise HostError(f"The secret `{name}` is not there", hint=hint)
        return found

    def _masked(self, log: str, names: tuple[str, ...]) -> str:
        for name in names:
            value = self.environ.get(name) or _text(self.environ.get(f"{name}_FILE", ""))
            for line in value.splitlines():
                log = log.replace(line, "***") if line.strip() else log
        return log

    def _lay_out(self, base: Path, build: ImageBuild) -> dict[str, str]:
        """Lay contexts out as folders of links; buildx may write into a layout, so they are not the store's own."""
        folders = {}
        contexts = {"": build.context, **build.contexts}
        for number, (name, content) in enumerate(contexts.items()):
            folder = base / f"context-{number}"
            write_tree(self.store, content.tree if isinstance(content, Layout) else content, folder)
            folders[name] = str(folder)
        if any("@" in path for path in folders.values()):
            raise HostError(f"buildx reads no layout below `{base}`", hint="Set FORGE_HOME to a path without `@`")
        return folders

    def _failure(self, code: int | None, log: str) -> ActionFailed | HostError:
        if any(text in log for text in _UNREACHABLE):
            said = next((line for line in log.splitlines() if any(text in line for text in _UNREACHABLE)), "")
            hint = "See `docker version`, `docker buildx ls`, and `[buildx]` in WORKSPACE.toml"
            return HostError(f"No builder answers: {said.removeprefix('ERROR: ')}", hint=hint)
        tail = "\n".join(log.splitlines()[-_LOG_LINES:])
        last = next((line for line in reversed(log.splitlines()) if line.startswith("ERROR: ")), "")
        how = f"no end after {_TIMEOUT} s" if code is None else f"exit code {code}"
        return ActionFailed(f"buildx: {last.removeprefix('ERROR: ') or how}", log=tail)

    def _take(self, folder: Path) -> Tree:
        """Bring a layout into the store; a blob that is there, such as a layer that came from it, is not read."""
        entries: dict[str, Entry] = {}
        with host_errors(folder):
            for name in ("oci-layout", "index.json"):
                entries[name] = File(self.store.put_file(folder / name))
            for path in sorted((folder / _PATHS).iterdir()):
                digest = Digest(path.name, path.stat().st_size)
                entries[f"{_PATHS}{path.name}"] = File(digest)
                if not self.store.contains(digest):
                    self.store.put_file(path, digest)
        return Tree.of(entries)


def _ask(program: str, *words: str, env: Mapping[str, str] | None = None) -> str:
    """Take what a command says; empty when it fails."""
    try:
        done = subprocess.run([program, *words], env=env, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(buildx: str, builder: str) -> str:
    fields = [line.partition(":") for line in builder.splitlines()]
    kept = {value.strip() for name, _, value in fields if name.strip().lower().startswith("buildkit")}
    driver = next((value.strip() for name, _, value in fields if name == "Driver"), "")
    return " ".join(filter(None, [*buildx.split()[1:2], driver, *sorted(kept)]))


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
