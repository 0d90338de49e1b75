"""`forge clean`."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

import click

from forge.cli.options import CONTEXT, working_folder
from forge.cli.session import Session, Settings
from forge.execution.executor import remove
from forge.execution.home import PARTS
from forge.execution.output import FOLDER


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge clean              remove forge-out and the notes about this workspace
  forge clean --expunge    remove the store too: the next build starts from nothing""",
)
@click.option("--expunge", is_flag=True, help="Remove everything that is cached, of all workspaces.")
def command(expunge: bool) -> int:
    """Remove forge-out, or everything that is cached."""
    session = Session(working_folder(), os.environ)
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
