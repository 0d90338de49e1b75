"""Which services and images `forge export` writes about, and what it must know of each."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from forge.cli.building import settings_of
from forge.cli.imaging import built_artifacts
from forge.cli.options import merged
from forge.cli.session import Session
from forge.core.artifact import Artifact
from forge.core.errors import UsageError, UserError
from forge.core.graph import ActionGraph
from forge.core.label import Label
from forge.core.platform import ARCHITECTURES
from forge.core.provider import AppInfo, ImageInfo, IndexInfo
from forge.core.secret import is_secret_name, secret_in
from forge.core.tool import FileContent, TreeContent
from forge.core.tree import Tree
from forge.deploy.bake import BakeTarget
from forge.deploy.service import Service, service_names
from forge.execution.home import host_errors
from forge.execution.materialize import write_tree

_SEE = "`forge query 'kind(image, //...)'` lists the images"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What patterns came to."""

    images: Mapping[Label, ImageInfo | IndexInfo]
    outright: frozenset[Label]
    actions: ActionGraph


def chosen(session: Session, patterns: Sequence[str], given: Mapping[str, Any]) -> Chosen:
    """Find the images and indices that patterns mean; UserError where one that is named is something else."""
    settings = settings_of(merged(given, session.workspace))
    graph = session.load(session.patterns(patterns), settings)
    actions = session.analyze(graph, settings)
    for label, fault in actions.skipped.items():
        if not session.rules[graph.targets[label].rule].is_test:
            click.echo(f"skipped {label}: {fault.text}", err=True)
    images = {}
    for label in graph.requested:
        info = actions.providers.get(label)
        if isinstance(info, (ImageInfo, IndexInfo)):
            images[label] = info
        elif info is not None and label in graph.outright:
            target = graph.targets[label]
            raise UserError(f"`{label}` is a `{target.rule}`, not an image", place=target.place, hint=_SEE)
    if not images:
        raise UserError("No image is named", hint=_SEE)
    return Chosen(images, graph.outright, actions)


def services(
    session: Session, found: Chosen, given: Mapping[str, Any], *, pin: bool, environ: Mapping[str, str]
) -> list[Service]:
    """Describe each image that listens; with `pin`, by the digest that it has once it is built.

    A wildcard passes over clients, which listen on nothing, and indices, whose images it names too.
    """
    _refuse_secrets(environ)
    listening: dict[Label, ImageInfo] = {}
    for label, info in found.images.items():
        if isinstance(info, ImageInfo) and info.port:
            listening[label] = info
        elif label in found.outright:
            what = "is an index" if isinstance(info, IndexInfo) else "listens on no port"
            raise UserError(f"`{label}` {what}, and is no service", hint="Name an image of a service")
    if not listening:
        raise UserError("None of these images is a service")
    names = service_names(listening)
    result = [_service(label, names[label], info, environ) for label, info in listening.items()]
    if not pin:
        return result
    digests = _digests(session, found.actions, list(listening.values()), given)
    return [
        replace(each, image=f"{each.image.rpartition(':')[0]}@{digest}")
        for each, digest in zip(result, digests, strict=True)
    ]


def bake_targets(session: Session, found: Chosen, given: Mapping[str, Any], folder: Path) -> list[BakeTarget]:
    """Build images and indices, and lay their layouts out below `folder`, for buildx to read and write."""
    names = service_names(found.images)
    infos = list(found.images.values())
    digests = _digests(session, found.actions, infos, given)
    layouts = built_artifacts(session, found.actions, [info.layout for info in infos if info.layout], given)
    targets = []
    for (label, info), digest, layout in zip(found.images.items(), digests, layouts, strict=True):
        assert isinstance(layout, TreeContent)
        place = folder / names[label]
        _lay_out(session, layout, place)
        path = Path(os.path.relpath(place, session.cwd)).as_posix()
        targets.append(BakeTarget(names[label], info.ref, path, digest, _architectures(info)))
    return targets


def _service(label: Label, name: str, info: ImageInfo, environ: Mapping[str, str]) -> Service:
    app, platform = info.app or AppInfo(), info.platform
    _refuse_clash(label, app.secrets, environ)
    return Service(
        label=label,
        name=name,
        image=info.ref,
        port=info.port,
        arch=info.arch,
        has_cuda=platform is not None and platform.accelerator == "cuda",
        is_jetson=platform is not None and bool(platform.jetpack),
        is_probed=info.app is not None,
        drain_s=app.drain_s,
        environ=tuple(sorted(environ.items())),
        secrets=app.secrets,
    )


def _refuse_secrets(environ: Mapping[str, str]) -> None:
    for name, value in environ.items():
        kind = "a secret" if is_secret_name(name) else secret_in(value)
        if kind:
            hint = f'The file would hold it: write `secrets = ["{name}"]` into the `compose` target'
            raise UsageError(f"`--env {name}` looks like {kind}", hint=hint)


def _refuse_clash(label: Label, secrets: Sequence[str], environ: Mapping[str, str]) -> None:
    for name in secrets:
        if name in environ:
            raise UsageError(f"`{name}` is a secret of `{label}`, which `--env` would write into the file")


def _digests(
    session: Session, actions: ActionGraph, infos: Sequence[ImageInfo | IndexInfo], given: Mapping[str, Any]
) -> list[str]:
    wanted: list[Artifact] = [info.digest for info in infos if info.digest is not None]
    texts = []
    for content in built_artifacts(session, actions, wanted, given):
        assert isinstance(content, FileContent)
        texts.append(str(json.loads(session.store.read(content.digest))["manifest"]))
    return texts


def _architectures(info: ImageInfo | IndexInfo) -> tuple[str, ...]:
    if isinstance(info, IndexInfo):
        return tuple(sorted({image.arch for image in info.images}))
    return (info.arch,) if info.arch else ARCHITECTURES


def _lay_out(session: Session, layout: TreeContent, place: Path) -> None:
    """Write a layout, in place of one that was there."""
    if os.path.lexists(place) and not (place / "oci-layout").is_file():
        raise UserError(f"`{place}` is in the way: it is no layout", hint="Move it elsewhere")
    with host_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            write_tree(session.store, Tree.decode(session.store.read(layout.tree)), aside)
            shutil.rmtree(place, ignore_errors=True)
            os.replace(aside, place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
