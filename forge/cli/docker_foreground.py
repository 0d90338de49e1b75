"""A container in the foreground: loaded, run by Docker's command, gone afterwards."""

from __future__ import annotations

import secrets as random
import shlex
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import click

from forge.cli.imaging import BuiltImage
from forge.cli.session import Session
from forge.cli.thin_load import load_thin
from forge.execution.docker_run import DockerRun
from forge.execution.engine import Engine
from forge.execution.foreground import ContainerStopper, attend


def load_image(session: Session, engine: Engine, image: BuiltImage) -> str:
    """Load an image under its own name, unless the engine has it there; that name."""
    load_thin(engine, session.store, image.layout, image.info.ref, engine.images())
    return image.info.ref


def show(run: DockerRun, engine: Engine) -> int:
    """Print the words that would run a container."""
    click.echo(shlex.join(run.line(engine.api())))
    return 0


def run_container(run: DockerRun, engine: Engine, secrets: Mapping[str, str]) -> int:
    """Run a container to its end; its exit code."""
    named = replace(run, name=f"forge-{random.token_hex(6)}")
    environ = {**engine.environ, **secrets}
    stopper = partial(ContainerStopper, name=named.name, environ=engine.environ)
    return attend(named.line(engine.api()), environ, stopper, has_terminal=run.has_terminal)
