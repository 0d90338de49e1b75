"""Actions, and the digests that identify them: the Remote Execution API's Action and Command messages.

https://github.com/bazelbuild/remote-apis, `Action`, `Command`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from forge.core import wire
from forge.core.artifact import Artifact
from forge.core.digest import Digest, Pin
from forge.core.label import Label
from forge.core.tool import Content, FileContent
from forge.core.tree import Directory, File, encode_digest

WORK = "build"
"""Folder of the sandbox, below its root, in which an action starts and finds its inputs."""
OUT = "out"
"""Folder below WORK in which an action leaves its outputs."""
TOOL = "forge-tool"
"""First word of an action that forge does itself, with no process."""
PULL = "pull"
"""The tool that brings what lies below the manifest of an image, which is its input."""


@dataclass(frozen=True, slots=True)
class Action:
    """A step of a build: what to run on what. Everything in it is identity but what says otherwise."""

    argv: tuple[str, ...]
    """Program and arguments; for forge's own tools `forge-tool`, name, version, parameters as JSON."""
    env: tuple[tuple[str, str], ...] = ()
    """The whole environment, sorted; nothing is inherited."""
    inputs: tuple[tuple[str, Artifact], ...] = ()
    """What lies below the working folder, by path, sorted."""
    root: Artifact | None = None
    """The tree that is the sandbox's file system."""
    outputs: tuple[str, ...] = ()
    """Paths below `out`; one that ends with `/` is a folder."""
    properties: tuple[tuple[str, str], ...] = ()
    """What the execution platform must be, sorted: architecture, version of the sandbox's contract."""
    timeout: int = 3600
    """Seconds. Identity, because a killed action is no result (remote_execution.proto, Action.timeout)."""
    fixed_output: Pin | None = None
    """The digest of the one file that it brings, declared beforehand: only such an action may use the network."""
    owner: Label = field(default=Label("", "none"), compare=False)
    mnemonic: str = field(default="Action", compare=False)
    """What kind of work it is, in one word."""
    description: str = field(default="", compare=False)

    @property
    def is_fixed_output(self) -> bool:
        """The digest of what it brings is known beforehand."""
        return self.fixed_output is not None

    @property
    def is_download(self) -> bool:
        """It may use the network: what it brings is known by digest, or lies below one that is, as `pull` verifies."""
        return self.is_fixed_output or self.tool == PULL

    @property
    def tool(self) -> str:
        """Name of the tool of forge's own that does it; empty for a command in the sandbox."""
        return self.argv[1] if self.argv[:1] == (TOOL,) else ""


@dataclass(frozen=True, slots=True)
class ActionKey:
    """An action with the content of its inputs: messages ready for any server of the API."""

    command: bytes
    """The Command message."""
    action: bytes
    """The Action message."""

    @property
    def digest(self) -> Digest:
        """Digest of the Action message: the key of the action cache."""
        return Digest.of(self.action)


def action_key(action: Action, inputs: Mapping[str, Content], root: Directory | None) -> ActionKey:
    """Resolve an action: `inputs` has the content of each of its paths, `root` its sandbox's root folder."""
    properties = b"".join(
        wire.message(1, wire.string(1, name) + wire.string(2, value)) for name, value in _properties(action)
    )
    command = b"".join(wire.message(1, word.encode()) for word in action.argv)
    command += b"".join(
        wire.message(2, wire.string(1, name) + wire.string(2, value)) for name, value in sorted(action.env)
    )
    # A path has no slash at its end (`Command.output_paths`), and no other sign that it is a folder. Field 4, which
    # servers since 2.1 ignore beside field 7, says it: an action that makes a file is not one that makes a folder.
    paths = {f"{OUT}/{path.rstrip('/')}": path.endswith("/") for path in action.outputs}
    command += b"".join(wire.string(4, path) for path in sorted(paths) if paths[path])
    if properties:
        command += wire.message(5, properties)
    command += wire.string(6, WORK)
    command += b"".join(wire.string(7, path) for path in sorted(paths))
    message = wire.message(1, encode_digest(Digest.of(command)))
    message += wire.message(2, encode_digest(input_root(inputs, root)))
    message += wire.message(6, wire.integer(1, action.timeout))
    if properties:
        message += wire.message(10, properties)
    return ActionKey(command, message)


def input_root(inputs: Mapping[str, Content], root: Directory | None) -> Digest:
    """Merge the sandbox's root folder and the inputs below WORK; the digest of the outcome."""
    work = _folder(inputs)
    base = root or Directory()
    directories = [item for item in base.directories if item[0] != WORK] + [(WORK, Digest.of(work.encode()))]
    return Digest.of(Directory(base.files, tuple(directories), base.symlinks).encode())


def _properties(action: Action) -> tuple[tuple[str, str], ...]:
    if action.fixed_output is None:
        return tuple(sorted(action.properties))
    return tuple(sorted([*action.properties, ("fixed-output", str(action.fixed_output))]))


def _folder(inputs: Mapping[str, Content]) -> Directory:
    """Make the folder that holds `inputs`; a tree's root digest stands for all that is in it.

    ValueError when one input lies inside another: the folder would have two entries of one name.
    """
    files: list[tuple[str, File]] = []
    directories: list[tuple[str, Digest]] = []
    below: dict[str, dict[str, Content]] = {}
    for path, content in inputs.items():
        name, slash, rest = path.partition("/")
        if slash:
            below.setdefault(name, {})[rest] = content
        elif isinstance(content, FileContent):
            files.append((name, File(content.digest, content.executable)))
        else:
            directories.append((name, content.root))
    for name, contents in below.items():
        if name in inputs:
            raise ValueError(f"Input `{name}` is a file or a whole tree, and others lie below it")
        directories.append((name, Digest.of(_folder(contents).encode())))
    return Directory(tuple(files), tuple(directories))
