"""What `forge shell` opens: the file system and the variables of a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forge.cli.building import settings_of
from forge.cli.imaging import built_artifacts, tree_content
from forge.cli.options import merged
from forge.cli.session import Session
from forge.core.artifact import Artifact
from forge.core.errors import HostError, UserError
from forge.core.graph import ActionGraph
from forge.core.label import Label
from forge.core.provider import AppInfo, EnvironmentInfo, ImageInfo, Provider
from forge.core.tool import TreeContent
from forge.core.tree import Symlink, Tree

_SHELLS = ("bin/bash", "usr/bin/bash", "bin/sh", "usr/bin/sh")
_PLAIN = {"HOME": "/tmp", "LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"}


@dataclass(frozen=True, slots=True)
class Opened:
    """A target's environment, which is there."""

    label: Label
    is_image: bool
    root: TreeContent
    tree: Tree
    environ: Mapping[str, str]
    """Its own variables; an image's, as far as analysis knows them."""

    def shell(self) -> str:
        """Find the shell that is in it; UserError where none is."""
        for path in _SHELLS:
            folder, _, name = path.rpartition("/")
            link = self.tree.entries.get(folder)
            real = f"{link.target.lstrip('/')}/{name}" if isinstance(link, Symlink) else path
            if real in self.tree.entries:
                return f"/{path}"
        hint = f"Name a program: `forge shell {self.label} -- python3`"
        raise UserError(f"`{self.label}` has no shell in it", hint=hint)


def opened(session: Session, text: str, given: Mapping[str, Any]) -> Opened:
    """Build what a label opens; UserError when nothing runs in it."""
    settings = settings_of(merged(given, session.workspace))
    graph = session.load(session.patterns([text]), settings)
    actions = session.analyze(graph, settings)
    labels = [label for label in graph.requested if label in actions.providers]
    if len(labels) > 1:  # an environment has one for each architecture
        platforms = {each: graph.targets[each].platform for each in labels}
        here = [each for each, platform in platforms.items() if platform and platform.arch == session.execution.arch]
        labels = here or labels
    if len(labels) != 1:
        names = ", ".join(map(str, labels))
        raise UserError(f"`{text}` means {len(labels)} targets, one is needed", hint=f"[{names}]")
    (label,) = labels
    artifact, arch, environ = _environment(actions, label, actions.providers[label], session.execution.arch)
    if arch != session.execution.arch:
        raise HostError(f"`{label}` is for `{arch}`, this machine is `{session.execution.arch}`")
    (content,) = built_artifacts(session, actions, [artifact], given)
    root = tree_content(content)
    tree = Tree.decode(session.store.read(root.tree))
    return Opened(label, isinstance(actions.providers[label], ImageInfo), root, tree, environ)


def _environment(
    actions: ActionGraph, label: Label, provider: Provider, here: str
) -> tuple[Artifact, str, Mapping[str, str]]:
    """Find a target's root and variables: an image's, an environment's, or those of the first command that it runs."""
    if isinstance(provider, ImageInfo) and provider.root is not None:
        return provider.root, provider.arch, dict(provider.environ)
    if isinstance(provider, AppInfo) and provider.environment is not None:
        provider = provider.environment
    if isinstance(provider, EnvironmentInfo) and provider.tree is not None:
        return provider.tree, provider.arch, _PLAIN
    for action in actions.actions.values():
        if action.owner == label and action.root is not None:
            return action.root, dict(action.properties).get("arch", here), dict(action.env)
    hint = "Name an image, an environment, or a target that runs a command"
    raise UserError(f"`{label}` has no environment: nothing runs in it", hint=hint)
