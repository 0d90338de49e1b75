"""`forge completion`."""

from __future__ import annotations

import click

from forge.cli.completion import SHELLS, script
from forge.cli.options import CONTEXT


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  source <(forge completion bash)            in ~/.bashrc; for zsh likewise, below `compinit` in ~/.zshrc
  forge completion zsh > ~/.zfunc/_forge     in a folder of zsh's `fpath`
  forge completion fish > ~/.config/fish/completions/forge.fish
  source <(./forgew completion bash)         completes ./forgew as well""",
)
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Write the script by which a shell completes commands, options, and the labels of a workspace."""
    click.echo(script(shell), nl=False)
