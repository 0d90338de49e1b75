"""`forge lock`."""

from __future__ import annotations

import os

import click

from forge.cli.exporting import export_pylock
from forge.cli.locking import Options, find_wanted, update
from forge.cli.locking import check as check_locks
from forge.cli.options import CONTEXT, working_folder
from forge.cli.session import Session
from forge.packages.release_debian import KEYRING, Trust
from forge.packages.upgrade import Upgrade


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge lock                          lock what is not locked, or whose request changed
  forge lock //tiny_gpt2:maker
  forge lock //gpt2:weights           pin a model: its commit, and the digest of each file
  forge lock --check                  fail when a lock is missing or stale (for CI; needs no network)
  forge lock --upgrade //toolchains:cpu_llm_trf
  forge lock --upgrade --dry-run      show what is newer, and write nothing
  forge lock --upgrade-package numpy  move one package, wherever it is locked; the others keep their versions
  forge lock --export=pylock --to=pylock.toml //toolchains:cpu_llm_trf""",
)
@click.argument("patterns", nargs=-1)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when a lock is missing or stale.")
@click.option("--upgrade", is_flag=True, help="Resolve anew, taking newer versions.")
@click.option(
    "--upgrade-package",
    "packages",
    metavar="NAME",
    multiple=True,
    help="Take newer versions of this Python or Debian package alone; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Resolve and show what would change; write nothing.")
@click.option("--unsigned", is_flag=True, help="Take Debian archives whose signature is not checked.")
@click.option("--expired", is_flag=True, help="Take Debian archives past their Valid-Until: snapshots.")
@click.option(
    "--export",
    type=click.Choice(["pylock"]),
    help="Resolve nothing; write the wheels of one environment for pip and uv.",
)
@click.option("--to", metavar="FILE", help="With --export, the file to write [default: standard output].")
@click.option(
    "--vendored", metavar="FOLDER", help="With --export, where the wheels will be [default: vendor, beside FILE]."
)
def command(
    patterns: tuple[str, ...],
    check: bool,
    upgrade: bool,
    packages: tuple[str, ...],
    dry_run: bool,
    unsigned: bool,
    expired: bool,
    export: str | None,
    to: str | None,
    vendored: str | None,
) -> int:
    """Resolve requirements into lock files: the only command that resolves anything.

    What changes is listed on standard output: added, removed and changed versions, and in capitals files whose bytes
    are others under the same version. What a source does not give here is left out and recorded as missing.
    """
    if (to or vendored) and not export:
        raise click.UsageError("--to and --vendored are for --export")
    resolves = upgrade or bool(packages) or dry_run
    if export and (check or resolves or len(patterns) != 1):
        raise click.UsageError("--export takes one target, and neither --check nor --upgrade")
    if check and resolves:
        raise click.UsageError("--check resolves nothing: leave out --upgrade, --upgrade-package and --dry-run")
    session = Session(working_folder(), os.environ)
    if export:
        return export_pylock(session, patterns[0], to, vendored)
    wanted = find_wanted(session, patterns)
    if not wanted:
        click.echo("Nothing to lock: no target asks for packages or fetched models", err=True)
    elif check:
        check_locks(wanted)
    else:
        trust = Trust(None if unsigned else KEYRING, refuse_expired=not expired)
        update(session, wanted, Options(Upgrade(upgrade, frozenset(packages)), trust, dry_run))
    return 0
