"""Building one image for a command that goes on with it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from forge.cli.building import settings_of
from forge.cli.console import Console
from forge.cli.failure import combined
from forge.cli.options import merged
from forge.cli.session import Session
from forge.core.artifact import Artifact
from forge.core.errors import HostError, UserError
from forge.core.graph import ActionGraph
from forge.core.label import Label
from forge.core.provider import ImageInfo, IndexInfo
from forge.core.tool import Content, FileContent, Json, TreeContent
from forge.core.tree import Tree
from forge.oci import document
from forge.oci.check import Check
from forge.oci.index import IndexSummary, summarize_index
from forge.oci.summary import ImageSummary, single, summarize_all


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image that is there."""

    label: Label
    info: ImageInfo
    layout: Tree
    summary: ImageSummary
    root: TreeContent | None
    """Its file system; None unless it was asked for."""


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """An index that is there, with its images."""

    label: Label
    info: IndexInfo
    layout: Tree
    summary: IndexSummary


def built_layout(session: Session, text: str, given: Mapping[str, Any]) -> BuiltImage | BuiltIndex:
    """Build the one image or index that a label names; UserError when it is none, or several."""
    label, info, actions = chosen_layout(session, text, given)
    if isinstance(info, ImageInfo):
        return _image(session, label, info, actions, given)
    assert info.layout is not None
    (content,) = built_artifacts(session, actions, [info.layout], given)
    tree = Tree.decode(session.store.read(tree_content(content).tree))
    return BuiltIndex(label, info, tree, summarize_index(tree, session.store))


def built_image(session: Session, text: str, given: Mapping[str, Any], *, root: bool = False) -> BuiltImage:
    """Build the one image that a label names; UserError when it is none, or several."""
    label, info, actions = chosen_layout(session, text, given)
    return _image(session, label, only_image(label, info), actions, given, root=root)


def _image(
    session: Session, label: Label, info: ImageInfo, actions: ActionGraph, given: Mapping[str, Any], root: bool = False
) -> BuiltImage:
    assert info.layout is not None
    if root and info.root is None:
        raise UserError(f"`{label}` is an index of several architectures, one image is needed")
    wanted = [info.layout, *([info.root] if root and info.root is not None else [])]
    contents = built_artifacts(session, actions, wanted, given)
    tree = Tree.decode(session.store.read(tree_content(contents[0]).tree))
    images = summarize_all(tree, session.store)
    if len(images) > 1:
        link = f"forge-out/{label.package}/{label.name}".replace("//", "/")
        known = ", ".join(each.architecture for each in images)
        hint = f"Tools that take an index read its layout: `skopeo copy --all oci:{link} …`"
        raise UserError(f"`{label}` holds images for [{known}], one is needed", hint=hint)
    summary = single(images)
    info = described(info, document.decode(session.store.read(summary.config)))
    return BuiltImage(label, info, tree, summary, tree_content(contents[1]) if root else None)


def built_sbom(session: Session, text: str, given: Mapping[str, Any]) -> bytes:
    """Build the list of what the one image that a label names is made of; UserError when it is none, or several."""
    label, found, actions = chosen_layout(session, text, given)
    info = only_image(label, found)
    if info.sbom is None:
        raise UserError(f"`{label}` has no list of what it is made of: its rule makes none")
    (content,) = built_artifacts(session, actions, [info.sbom], given)
    assert isinstance(content, FileContent)
    return session.store.read(content.digest)


def runnable_image(session: Session, text: str, given: Mapping[str, Any]) -> BuiltImage:
    """Build the one image that a label names, with its file system; HostError when it is not for this machine."""
    image = built_image(session, text, given, root=True)
    if image.info.arch != session.execution.arch:
        raise HostError(f"`{image.label}` is for `{image.info.arch}`, this machine is `{session.execution.arch}`")
    return image


def variables(texts: Iterable[str]) -> dict[str, str]:
    """Read `NAME=VALUE`, as `--env` takes it."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--env {text} has no `=`")
        found[name] = value
    return found


def only_image(label: Label, info: ImageInfo | IndexInfo) -> ImageInfo:
    """Take an image; UserError where it is an index of several."""
    if isinstance(info, ImageInfo):
        return info
    platforms = ", ".join(each.platform.name for each in info.images if each.platform)
    raise UserError(f"`{label}` is an index of several images, for [{platforms}]", hint="Name one of its images")


def chosen_layout(
    session: Session, text: str, given: Mapping[str, Any]
) -> tuple[Label, ImageInfo | IndexInfo, ActionGraph]:
    """Find the one image or index that a label names, and the actions that make it."""
    settings = settings_of(merged(given, session.workspace))
    graph = session.load(session.patterns([text]), settings)
    actions = session.analyze(graph, settings)
    images = [(label, actions.providers[label]) for label in graph.requested if label in actions.providers]
    see = "`forge query 'kind(image, //...)'` lists the images"
    if len(images) != 1:
        names = ", ".join(str(label) for label, _ in images)
        raise UserError(f"`{text}` means {len(images)} targets, one image is needed", hint=f"[{names}]; {see}")
    ((label, info),) = images
    if not isinstance(info, (ImageInfo, IndexInfo)):
        target = graph.targets[label]
        raise UserError(f"`{label}` is a `{target.rule}`, not an image", place=target.place, hint=see)
    return label, info, actions


def built_artifacts(
    session: Session, actions: ActionGraph, wanted: Sequence[Artifact], given: Mapping[str, Any]
) -> list[Content | None]:
    """Build artifacts, in their order."""
    flags = merged(given, session.workspace)
    settings = settings_of(flags)
    console = Console.make(flags.get("progress") or "auto", flags.get("color") or "auto", os.environ)
    with console, session.locked(settings):
        try:
            builder = session.builder(settings, console)
            run = builder.build(actions, wanted)
        finally:
            session.save()
    if run.failures:
        raise combined(run)
    return [builder.content(run, artifact) for artifact in wanted]


def described(info: ImageInfo, config: Json) -> ImageInfo:
    """Take from an image's configuration how it runs; the validator has seen it.

    Its variables are a vendor's base's too, and a Dockerfile's image alone says what it runs.
    """
    check = Check("config")
    found = check.object(check.object(config, "config").get("config", {}), "config")
    words = [*check.texts(found.get("Entrypoint") or [], "Entrypoint"), *check.texts(found.get("Cmd") or [], "Cmd")]
    environ = [text.partition("=")[::2] for text in check.texts(found.get("Env") or [], "Env")]
    info = replace(info, environ=tuple(environ))
    if info.entrypoint:
        return info
    workdir = check.text(found.get("WorkingDir") or "/", "WorkingDir")
    return replace(info, entrypoint=tuple(words), workdir=workdir)


def tree_content(content: Content | None) -> TreeContent:
    assert isinstance(content, TreeContent)
    return content
