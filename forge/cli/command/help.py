"""`forge help`."""

from __future__ import annotations

import click

from forge.cli.options import CONTEXT


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge help
  forge help build""",
)
@click.argument("name", required=False)
@click.pass_context
def command(context: click.Context, name: str | None) -> None:
    """Show help, of everything or of one command."""
    parent = context.parent
    assert parent is not None and isinstance(parent.command, click.Group)
    if name is None:
        click.echo(parent.get_help())
        return
    found = parent.command.get_command(parent, name)
    if found is None:
        raise click.UsageError(f"No such command '{name}'.")
    with click.Context(found, info_name=name, parent=parent) as inner:
        click.echo(found.get_help(inner))
