"""What a rule's `analyze` is given: its dependencies' providers, and a way to ask for actions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from forge.core.action import OUT, TOOL, Action
from forge.core.artifact import Artifact, Derived, Source
from forge.core.errors import AnalysisError, Unavailable
from forge.core.label import Label
from forge.core.lock import Lock, LockRequest, Material
from forge.core.platform import Platform, Toolchain
from forge.core.provider import EnvironmentInfo, ImageInfo, Provider
from forge.core.target import Target
from forge.core.tool import Json

P = TypeVar("P", bound=Provider)

SANDBOX_VERSION = "1"
"""Version of the sandbox's contract: what an action sees beside its inputs. In every command's key."""

PINNED = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "SOURCE_DATE_EPOCH": "0",
    "TMPDIR": "/tmp",
    "TZ": "UTC",
    # BLAS, torch and oneDNN choose kernels by the host's CPU unless told; bytes must not depend on it.
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "1",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""The environment of every action; its own variables come on top."""


@dataclass(frozen=True, slots=True)
class ToolVersions:
    """Versions of forge's own tools by name: they are in the keys of the actions that use them."""

    versions: Mapping[str, str]


@dataclass(slots=True)
class Context:
    """One target under analysis."""

    target: Target
    toolchains: Mapping[str, Toolchain]
    execution: Platform
    providers: Mapping[Label, Provider]
    tools: ToolVersions
    settings: Mapping[str, str]
    """Of the workspace: `repository`, `tag`, `created`."""
    runtime: tuple[Source, ...] = ()
    """The files of the runtime that images carry."""
    actions: dict[str, Action] = field(default_factory=dict)
    """What has been asked for so far."""

    @property
    def label(self) -> Label:
        """The target's label."""
        return self.target.label

    @property
    def platform(self) -> Platform | None:
        """The target platform; None for a target that all platforms share."""
        return self.target.platform

    @property
    def toolchain(self) -> Toolchain:
        """The toolchain of the target platform; AnalysisError where there is none."""
        what = f"`{self.target.rule}` target `{self.label}`"
        if self.platform is None:
            raise self.error(f"{what} needs `platforms`", 'Such as `platforms = ["*_llm_*"]`')
        found = self.toolchains.get(self.platform.name)
        if found is None:
            raise self.error(f"{what} cannot be made for `{self.platform.name}`: an architecture has no toolchain")
        return found

    def dep(self, label: Label, kind: type[P]) -> P:
        """Take the provider of a dependency; AnalysisError if it is of another kind, Unavailable if not for here."""
        found = self.deps(label, kind)
        if not found:
            text = f"`{self.label}` runs on `{self.execution.arch}`, `{label}` has no instance for that"
            raise Unavailable(text, place=self.place, hint=f"Give `{label}` the platform `{self.execution.arch}`")
        if len(found) != 1:
            raise self.error(f"`{label}` means {len(found)} targets, one is needed")
        return found[0]

    def deps(self, label: Label, kind: type[P]) -> tuple[P, ...]:
        """Take the providers of all that a label means here."""
        found = []
        for each in self.target.deps[label]:
            provider = self.providers[each]
            if not isinstance(provider, kind):
                what = f"`{self.target.rule}` target `{self.label}`"
                raise self.error(f"`{each}` gives {_noun(type(provider))}, {what} needs {_noun(kind)}")
            found.append(provider)
        return tuple(found)

    def lock(self, request: LockRequest) -> Lock:
        """Take a lock; Unavailable when it is not there, was made for something else or lacks a material."""
        found, file = self.target.locks.get(request.name), request.file.rpartition("/")[2]
        command = f"`forge lock {self.target.generator or self.label}`"
        if found is None:
            raise Unavailable(f"`{self.label}` is not locked: no `{file}`", place=self.place, hint=f"Run {command}")
        if not request.is_answered_by(found):
            raise Unavailable(f"The lock `{file}` of `{self.label}` is stale", place=self.place, hint=f"Run {command}")
        if found.missing:
            what, ids = ", ".join(map(str, found.missing)), sorted({each.source for each in found.missing})
            settings = ", ".join(f'`"{each}" = "https://…"`' for each in ids)
            hint = (
                f"Run {command} where that can be reached; {settings} in `[sources]` of WORKSPACE.toml says where it is"
            )
            raise Unavailable(f"The lock `{file}` of `{self.label}` lacks {what}", place=self.place, hint=hint)
        return found

    def below(self, source: Source) -> str:
        """Name a source's path below the package's folder."""
        parts = source.path.split("/")
        folders = ("/" + "/".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))
        folder = next((each for each in folders if self.target.folder.endswith(each)), "")
        return f"/{source.path}".removeprefix(folder).removeprefix("/")

    @property
    def place(self) -> str:
        """`file:line` of the target."""
        return self.target.place

    def error(self, text: str, hint: str = "") -> AnalysisError:
        """Make an error at the target's place."""
        return AnalysisError(text, place=self.place, hint=hint)

    def run(
        self,
        argv: Sequence[str],
        *,
        environment: EnvironmentInfo,
        inputs: Mapping[str, Artifact],
        outputs: Sequence[str],
        env: Mapping[str, str] | None = None,
        mnemonic: str = "Command",
        description: str = "",
        timeout: int = 3600,
    ) -> tuple[Artifact, ...]:
        """Ask for a command in the sandbox; its outputs, in their order.

        It runs in the folder that holds `inputs`, by path, and leaves `outputs` below `out/`; one that
        ends with `/` is a folder. `env` comes on top of PINNED.
        """
        if environment.tree is None or environment.arch != self.execution.arch:
            raise self.error(f"`{self.label}` runs on `{self.execution.arch}`, its environment is for another")
        action = Action(
            argv=tuple(argv),
            env=tuple(sorted({**PINNED, **(env or {})}.items())),
            inputs=tuple(sorted(inputs.items())),
            root=environment.tree,
            outputs=tuple(outputs),
            properties=(("arch", environment.arch), ("sandbox", SANDBOX_VERSION)),
            timeout=timeout,
            owner=self.label,
            mnemonic=mnemonic,
            description=description or f"{mnemonic} {self.label}",
        )
        return self._declare(action)

    def boot(
        self,
        image: ImageInfo,
        argv: Sequence[str],
        *,
        inputs: Mapping[str, Artifact],
        outputs: Sequence[str],
        timeout: int,
    ) -> Artifact:
        """Ask for a command with an image's file system as its root; the image's own follows `argv` after `--`."""
        if image.arch != self.execution.arch:
            raise Unavailable(
                f"`{self.label}` boots a `{image.arch}` image, this machine runs `{self.execution.arch}`",
                place=self.place,
            )
        environment = EnvironmentInfo(arch=image.arch, tree=image.root)
        (made,) = self.run(
            [*argv, "--", *image.entrypoint],
            environment=environment,
            inputs=inputs,
            outputs=outputs,
            env={**dict(image.environ), "FORGE_WORKDIR": image.workdir},
            mnemonic="Test",
            description=f"Test {self.label}",
            timeout=timeout,
        )
        return made

    def tool(
        self,
        name: str,
        params: Mapping[str, Json],
        *,
        inputs: Mapping[str, Artifact],
        outputs: Sequence[str],
        mnemonic: str = "",
        description: str = "",
    ) -> tuple[Artifact, ...]:
        """Ask for work that forge does itself; it takes `inputs` in the order of their sorted names."""
        version = self._version(name)
        encoded = json.dumps(params, sort_keys=True, separators=(",", ":"))
        action = Action(
            argv=(TOOL, name, version, encoded),
            inputs=tuple(sorted(inputs.items())),
            outputs=tuple(outputs),
            owner=self.label,
            mnemonic=mnemonic or name.capitalize(),
            description=description or f"{mnemonic or name.capitalize()} {self.label}",
        )
        return self._declare(action)

    def write(self, name: str, content: str) -> Artifact:
        """Ask for a file with a given text."""
        (artifact,) = self.tool("write", {"text": content}, inputs={}, outputs=[name], mnemonic="Write")
        return artifact

    def fetch(self, material: Material) -> Artifact:
        """Ask for a file that a lock names: a fixed-output action, shared by all that name the same."""
        params = {
            "name": material.name,
            "version": material.version,
            "file": material.file,
            "source": material.source,
            "path": material.path,
            "suite": material.suite,
        }
        action = Action(
            argv=(TOOL, "fetch", self._version("fetch"), json.dumps(params, sort_keys=True)),
            outputs=(material.file,),
            fixed_output=material.digest,
            owner=self.label,
            mnemonic="Fetch",
            description=f"Fetch {material.file}",
        )
        return self._declare(action, name=f"fetch:{material.file}:{material.digest.short}")[0]

    def _version(self, tool: str) -> str:
        found = self.tools.versions.get(tool)
        if found is None:
            raise self.error(f"Unknown tool `{tool}`")
        return found

    def _declare(self, action: Action, name: str = "") -> tuple[Artifact, ...]:
        self._refuse_nested("inputs", [path for path, _ in action.inputs])
        self._refuse_nested("outputs", [path.rstrip("/") for path in action.outputs])
        if not name:
            stem = f"{self.label}#{action.mnemonic}"
            count = sum(1 for each in self.actions if each == stem or each.startswith(f"{stem}."))
            name = f"{stem}.{count}" if count else stem
        self.actions[name] = action
        return tuple(Derived(name, output) for output in action.outputs)

    def _refuse_nested(self, what: str, paths: Sequence[str]) -> None:
        """Refuse two paths of which one is the other or lies below it: there is no such folder."""
        known = set(paths)
        for number, path in enumerate(paths):
            parents = [path[:end] for end in range(len(path)) if path[end] == "/"]
            inside = next((parent for parent in parents if parent in known), path if path in paths[:number] else "")
            if inside:
                raise self.error(f"`{path}` and `{inside}` cannot both be {what} of `{self.label}`")


def location(artifact: Artifact) -> str:
    """Name the path that an artifact has as an input of an action by convention."""
    if isinstance(artifact, Source):
        return artifact.path
    return f"{artifact.action.partition('#')[0].removeprefix('//').replace(':', '/')}/{artifact.output.rstrip('/')}"


def _noun(kind: type) -> str:
    return {
        "EnvironmentInfo": "an environment",
        "ModelInfo": "a model",
        "AppInfo": "a composed service",
        "ImageInfo": "an image",
        "IndexInfo": "an index of images",
        "TestInfo": "a test's verdict",
    }.get(kind.__name__, "files")


__all__ = ["OUT", "Context", "ToolVersions", "location"]
