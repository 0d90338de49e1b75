"""`forge clean`."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

import click

from forge.cli.options import CONTEXT, working_folder
from forge.cli.session import Session, Settings
from forge.execution.docker_executor import prune
from forge.execution.executor import remove
from forge.execution.home import PARTS
from forge.execution.output import FOLDER


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge clean              remove forge-out and the notes about this workspace
  forge clean --expunge    remove the store too: the next build starts from nothing
  forge clean --docker     remove forge's images from the Docker engine""",
)
@click.option("--expunge", is_flag=True, help="Remove everything that is cached, of all workspaces.")
@click.option("--docker", is_flag=True, help="Remove what a Docker engine has of forge's: trees, tested images.")
def command(expunge: bool, docker: bool) -> int:
    """Remove forge-out, or everything that is cached; or what a Docker engine was given to run actions and tests."""
    session = Session(working_folder(), os.environ)
    if docker:
        removed, kept = prune(session.engine, session.store)
        click.echo(f"Removed {removed} images" + (f"; {kept} are in use" if kept else ""), err=True)
        return 0
    with session.locked(Settings()):
        shutil.rmtree(session.root / FOLDER, ignore_errors=True)
        for folder in (session.state, session.store.home / "sandbox"):
            remove(folder)
    if expunge:
        home = session.store.home
        for part in PARTS:  # and nothing that is not forge's own
            remove(home / part)
        (home / "version").unlink(missing_ok=True)
        with suppress(OSError):
            home.rmdir()
        click.echo(f"Removed the store below {home}", err=True)
    return 0
