"""`forge init`."""

from __future__ import annotations

from pathlib import Path

import click

from forge.cli.options import CONTEXT
from forge.cli.scaffold import is_workspace_name, name_of, new_files, refuse_existing, workflow, write
from forge.core.errors import UsageError


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge init                      make the working folder a workspace
  forge init services --name shop
  forge init services --dry-run   only list what would be written
  forge init --ci=github          have GitHub build it; in a workspace, only that""",
)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--name", help="Name of the workspace, which its images begin with [default: the folder's].")
@click.option("--dry-run", is_flag=True, help="Write nothing, only list the files.")
@click.option("--ci", type=click.Choice(["github", "gitlab"]), help="Write what has this service build and test it.")
def command(folder: Path, name: str | None, dry_run: bool, ci: str | None) -> int:
    """Make a workspace that builds: a small service with its model and test, and `forgew` with this forge.

    Prints the files that it made. Nothing is overwritten: where one of them is there already, nothing is written.
    """
    if name is not None and not is_workspace_name(name):
        hint = "Images are called by it: lower-case letters and digits, with single `.`, `_`, `-` between them"
        raise UsageError(f"`{name}` cannot be the name of a workspace", hint=hint)
    files = workflow(ci) if ci else {}
    is_new = ci is None or not (folder / "WORKSPACE.toml").is_file()
    if is_new:
        # WORKSPACE.toml stays the last of them.
        files |= new_files(name or name_of(folder.resolve()))
    elif name is not None:
        raise UsageError(f"`{folder}` is a workspace already, and has its name", hint="Leave `--name` out")
    if dry_run:
        refuse_existing(folder, files)
    else:
        write(folder, files)
    for path in sorted(files):
        click.echo(str(folder / path))
    if is_new and not dry_run:
        step = "" if folder == Path() else f"cd {folder} && "
        click.echo(f"Next: {step}./forgew build //...", err=True)
    return 0
