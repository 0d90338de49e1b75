"""One command's session: the workspace, and everything wired together for it."""

from __future__ import annotations

import fcntl
import os
import platform as host
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from forge.analysis.analyzer import analyze
from forge.analysis.context import ToolVersions
from forge.cli.tools import BUILDX_TOOLS, TOOL_VERSIONS, OutsideVersions, make_tools
from forge.core.errors import HostError, LockHeld, UsageError
from forge.core.event import Listener
from forge.core.graph import ActionGraph
from forge.core.label import Label, TargetPattern, parse_patterns
from forge.core.platform import ARCHITECTURES, Arch, Platform
from forge.core.rule import Rule
from forge.core.target import TargetGraph
from forge.core.tool import Tool
from forge.execution.action_cache import ActionCache
from forge.execution.builder import Builder
from forge.execution.buildx import Buildx, BuildxSettings
from forge.execution.container import ContainerEngine
from forge.execution.engine import Engine
from forge.execution.executor import Executor, LocalExecutor
from forge.execution.home import home_folder, host_errors
from forge.execution.process import ProcessGroup
from forge.execution.remote import Remote
from forge.execution.sandbox import find_bwrap
from forge.execution.scheduler import Scheduler
from forge.execution.snapshot import state_folder
from forge.execution.source import SourceCache
from forge.execution.store import LocalStore
from forge.execution.trace import TraceLog
from forge.loading.loader import Loader
from forge.loading.reader import Reader
from forge.loading.rule_module import load_rules
from forge.loading.toolchain import Toolchains, load_toolchains
from forge.loading.workspace import Workspace, find_root, load_workspace
from forge.packages.sources import Sources
from forge.remote.address import RemoteSettings, open_remote

_MACHINES: Mapping[str, Arch] = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What flags and WORKSPACE.toml's `[build]` say."""

    jobs: int = 0
    """Actions at a time; 0 for one per processor."""
    keep_going: bool = False
    offline: bool = False
    sandbox_debug: bool = False
    noblock_for_lock: bool = False
    override: Mapping[Label, Label] = field(default_factory=dict)
    assembler: str = ""
    """Puts every image together, whatever WORKSPACE.toml and targets say."""
    builder: str = ""
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    remote: RemoteSettings | None = None
    """The remote cache; none unless told."""
    remote_upload: bool = True
    """Give the remote cache what runs here."""
    remote_upload_cached: bool = False
    """Give it also what was cached here, where it lacks that."""
    executor: str = ""
    """Where commands run: `local`, `docker`; empty for what the environment or WORKSPACE.toml says."""
    containers: bool = False
    """Tests boot images as containers of a Docker engine, whoever runs the other commands."""


_DEFAULTS = Settings()


class Session:
    """Opens a workspace; each part is made when it is first needed."""

    def __init__(self, cwd: Path, environ: Mapping[str, str]) -> None:
        self.started = time.time_ns()
        self.cwd, self.environ = cwd, environ
        self.root = find_root(cwd)
        self.reader = Reader()
        self._executor = ""

    @property
    def executor(self) -> str:
        """Where commands run: what a flag said, else FORGE_EXECUTOR, else `[build]`."""
        return (
            self._executor or self.environ.get("FORGE_EXECUTOR") or str(self.workspace.build.get("executor", "local"))
        )

    @cached_property
    def engine(self) -> ContainerEngine:
        """The Docker engine, by its API; HostError where none answers."""
        from forge.execution.docker_engine import DockerEngine

        return DockerEngine(self.environ)

    @cached_property
    def workspace(self) -> Workspace:
        """WORKSPACE.toml."""
        return load_workspace(self.root, self.reader)

    @cached_property
    def execution(self) -> Platform:
        """The platform that actions run on: this machine, or that of the Docker engine which runs them."""
        is_docker = self.executor == "docker"
        machine, system = (self.engine.arch, "linux") if is_docker else (host.machine().lower(), sys.platform)
        arch = _MACHINES.get(machine)
        if arch is None or system != "linux":
            text = f"Actions run on Linux on [{', '.join(ARCHITECTURES)}], this is {system} on {machine}"
            hint = "" if is_docker else "Where Docker runs, `--executor=docker` runs them in containers"
            raise HostError(text, hint=hint)
        return Platform(arch, arch)

    @cached_property
    def rules(self) -> dict[str, Rule]:
        """Built-in rules and the workspace's own."""
        return load_rules([builtin("rules"), self.root / self.workspace.workspace.rules], self.reader)

    @cached_property
    def toolchains(self) -> Toolchains:
        """Built-in toolchains and the workspace's own."""
        own = self.workspace.workspace.toolchains
        return load_toolchains([(self.root / own, own), (builtin("toolchains"), "forge:toolchains")], self.reader)

    @cached_property
    def store(self) -> LocalStore:
        """The store."""
        return LocalStore(home_folder(self.environ))

    @cached_property
    def state(self) -> Path:
        """The folder with what forge notes about this workspace."""
        folder = Path(state_folder(str(self.store.home), str(self.root)))
        with host_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    @cached_property
    def sources(self) -> SourceCache:
        """Digests of source files."""
        return SourceCache(
            {"workspace": self.root, "runtime": builtin("runtime"), "rules": builtin("rules")}, self.state / "sources"
        )

    @cached_property
    def traces(self) -> TraceLog:
        """What each action was made of."""
        return TraceLog(self.state / "traces")

    @cached_property
    def places(self) -> Sources:
        """Where materials come from."""
        return Sources.read(self.workspace.sources, self.environ, root=self.root)

    def loader(self, override: Mapping[Label, Label] | None = None) -> Loader:
        """Make a loader."""
        return Loader(
            root=self.root,
            packages_folder=self.workspace.workspace.packages,
            rules=self.rules,
            toolchains=self.toolchains,
            execution=self.execution,
            reader=self.reader,
            overrides=override or {},
            runtime_folder=builtin("runtime"),
        )

    def patterns(self, texts: Sequence[str]) -> tuple[TargetPattern, ...]:
        """Read patterns; relative ones are those of the package that the working folder is in."""
        if not texts:
            raise UsageError("No target is named", hint="Name one, such as `//package:target`, or all: `//...`")
        return parse_patterns(texts, self.package)

    @property
    def package(self) -> str:
        """The package that the working folder is in."""
        base = self.root / self.workspace.workspace.packages
        inside = self.cwd.relative_to(base).as_posix() if self.cwd.is_relative_to(base) else "."
        return "" if inside == "." else inside

    def load(self, patterns: Iterable[TargetPattern], settings: Settings = _DEFAULTS) -> TargetGraph:
        """Load what patterns need."""
        self._executor = settings.executor or self._executor
        return self.loader(settings.override).load(patterns)

    def analyze(self, graph: TargetGraph, settings: Settings = _DEFAULTS) -> ActionGraph:
        """Turn targets into actions."""
        image = self.workspace.image
        given = {
            "repository": image.repository or self.workspace.workspace.name,
            "tag": image.tag,
            "created": image.created,
            "assembler": image.assembler,
            "assembler_flag": settings.assembler,
            "stages": "yes" if self.workspace.buildx.stages else "",
        }
        versions = OutsideVersions(TOOL_VERSIONS, BUILDX_TOOLS, lambda: self.buildx(settings).version)
        return analyze(graph, self.rules, ToolVersions(versions), given)

    def buildx(self, settings: Settings, processes: ProcessGroup | None = None) -> Buildx:
        """Make what runs buildx."""
        table = self.workspace.buildx
        chosen = BuildxSettings(
            builder=settings.builder or table.builder,
            driver=table.driver,
            driver_opts=tuple(table.driver_opts.items()),
            endpoint=table.endpoint,
            cache_from=settings.cache_from or table.cache_from,
            cache_to=settings.cache_to or table.cache_to,
        )
        return Buildx(self.store, chosen, self.environ, processes or ProcessGroup(), self.state / "buildx")

    def builder(self, settings: Settings, listener: Listener) -> Builder:
        """Wire everything that runs actions."""
        processes = ProcessGroup()
        buildx = self.buildx(settings, processes)
        tools = make_tools(self.store, lambda: self.places, buildx, offline=settings.offline)
        executor = self._runner(settings, tools, processes)
        scheduler = Scheduler(
            store=self.store,
            cache=ActionCache(self.store),
            sources=self.sources,
            executor=executor,
            traces=self.traces,
            listener=listener,
            jobs=settings.jobs or os.cpu_count() or 1,
            keep_going=settings.keep_going,
            remote=self.remote(settings, listener),
        )
        return Builder(scheduler, self.store)

    def remote(self, settings: Settings, listener: Listener) -> Remote | None:
        """Wire the remote cache, where there is one and something may be downloaded."""
        if settings.remote is None or settings.offline:
            return None
        cache = open_remote(settings.remote, self.environ)
        upload, cached = settings.remote_upload, settings.remote_upload_cached
        return Remote(cache, self.store, listener, upload=upload, upload_cached=cached)

    def _runner(self, settings: Settings, tools: Mapping[str, Tool], processes: ProcessGroup) -> Executor:
        local = LocalExecutor(self.store, tools, lambda: find_bwrap(self.environ), settings.sandbox_debug, processes)
        everything = self.executor == "docker"
        if not everything and not settings.containers:
            return local
        from forge.cli.thin_load import load_tested
        from forge.execution.docker_executor import DockerExecutor

        docker = Engine(self.environ)
        return DockerExecutor(
            local, lambda: self.engine, lambda layout: load_tested(docker, self.store, layout), everything
        )

    @contextmanager
    def locked(self, settings: Settings) -> Iterator[None]:
        """Hold the workspace: one build at a time writes its links and notes."""
        with open(self.state / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if settings.noblock_for_lock:
                    raise LockHeld("Another command is building in this workspace") from error
                print("Another command is building in this workspace: waiting for it", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def save(self) -> None:
        """Write the notes."""
        self.sources.save()
        self.traces.save()


def builtin(name: str) -> Path:
    """Find what forge brings along: beside its package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "builtin" / name
    return installed if installed.is_dir() else package.parent / name
