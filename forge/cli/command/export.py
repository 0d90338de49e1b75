"""`forge export`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from forge.cli.deploying import bake_targets, chosen, services
from forge.cli.exporting import replace_file
from forge.cli.imaging import variables
from forge.cli.options import CONTEXT, F, build_options, merged, working_folder
from forge.cli.session import Session
from forge.core.errors import UsageError
from forge.deploy.bake import render_bake
from forge.deploy.compose import render_compose
from forge.deploy.kubernetes import Resources, render_kubernetes
from forge.deploy.service import dns_label

_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")


@click.group(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge export compose //tiny_gpt2:cpu_llm_trf --to=compose.yaml
  forge export k8s //... --pin | kubectl apply -f -
  forge export bake //tiny_gpt2:llama --to=docker-bake.json && docker buildx bake -f docker-bake.json""",
)
def command() -> None:
    """Write what others run or build images by: the same targets, another form."""


def _service_options(function: F) -> F:
    options: list[Callable[[F], F]] = [
        click.argument("patterns", nargs=-1, required=True),
        click.option("--to", metavar="FILE", help="File to write [default: standard output]."),
        click.option("--pin", is_flag=True, help="Build the images, and name them by digest instead of tag."),
        click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="Variable of every service; no secrets."),
        build_options,
    ]
    for option in reversed(options):
        function = option(function)
    return function


@command.command(context_settings=CONTEXT)
@_service_options
def compose(patterns: tuple[str, ...], to: str | None, pin: bool, env: tuple[str, ...], **flags: Any) -> int:
    """Write a Docker compose file: services on loopback, read-only, without capabilities, with a health check."""
    target = _target(to)
    session = Session(working_folder(), os.environ)
    found = services(session, chosen(session, patterns, flags), flags, pin=pin, environ=variables(env))
    return _written(render_compose(dns_label(session.workspace.workspace.name), found), target)


@command.command(context_settings=CONTEXT)
@_service_options
@click.option("--cpu", default="1", show_default=True, metavar="QUANTITY", help="Processors that each asks for.")
@click.option("--memory", default="2Gi", show_default=True, metavar="QUANTITY", help="Memory that each asks for.")
@click.option("--memory-limit", default="", metavar="QUANTITY", help="Memory beyond which it is ended [default: none].")
def k8s(
    patterns: tuple[str, ...],
    to: str | None,
    pin: bool,
    env: tuple[str, ...],
    cpu: str,
    memory: str,
    memory_limit: str,
    **flags: Any,
) -> int:
    """Write Kubernetes manifests: a Deployment and a Service for each image."""
    for name, text in (("cpu", cpu), ("memory", memory), ("memory-limit", memory_limit)):
        if text and not _QUANTITY.fullmatch(text):
            raise UsageError(f"`--{name} {text}` is no quantity", hint="Such as `500m`, `2` or `4Gi`")
    target = _target(to)
    session = Session(working_folder(), os.environ)
    found = services(session, chosen(session, patterns, flags), flags, pin=pin, environ=variables(env))
    return _written(render_kubernetes(found, Resources(cpu, memory, memory_limit)), target)


@command.command(context_settings=CONTEXT)
@click.argument("patterns", nargs=-1, required=True)
@click.option("--to", required=True, metavar="FILE", help="File to write; the images' layouts lie beside it.")
@build_options
def bake(patterns: tuple[str, ...], to: str, **flags: Any) -> int:
    """Build images and write a file for `docker buildx bake`, called in this folder: it needs nothing else of forge."""
    target = _target(to)
    assert target is not None
    session = Session(working_folder(), os.environ)
    folder = target.with_name(f"{target.stem}.layouts")
    targets = bake_targets(session, chosen(session, patterns, flags), flags, folder.absolute())
    settings, table = merged(flags, session.workspace), session.workspace.buildx
    caches = [settings.get(name) or getattr(table, name) for name in ("cache_from", "cache_to")]
    epoch = int(datetime.fromisoformat(session.workspace.image.created).timestamp())
    return _written(render_bake(targets, epoch=epoch, cache_from=caches[0], cache_to=caches[1]), target)


def _target(to: str | None) -> Path | None:
    if to is None:
        return None
    target = Path(to)
    if target.is_dir() or not target.parent.is_dir():
        raise UsageError(f"`{to}` is not a file that can be written", hint="Name a file in a folder that exists")
    return target


def _written(text: str, target: Path | None) -> int:
    if target is None:
        click.echo(text, nl=False)
        return 0
    replace_file(target, text)
    click.echo(f"{target}: written", err=True)
    return 0
