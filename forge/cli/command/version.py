"""`forge version`."""

from __future__ import annotations

import click

from forge import __version__
from forge.cli.options import CONTEXT


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge version""",
)
def command() -> None:
    """Show forge's version."""
    click.echo(f"forge {__version__}")
