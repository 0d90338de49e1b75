"""`forge vendor`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from forge.cli.building import settings_of
from forge.cli.console import Console, human
from forge.cli.failure import combined
from forge.cli.material import materials
from forge.cli.options import CONTEXT, build_options, merged, working_folder
from forge.cli.session import Session
from forge.cli.vendoring import LIST, vendor


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge vendor //... --to=vendor
  forge vendor //tiny_gpt2:cpu_llm_trf --to=/mnt/stick/forge
  (cd vendor && sha256sum --check --quiet SHA256SUMS)     after it was carried elsewhere

\b
There, WORKSPACE.toml takes everything from the folder, and no network is asked:
  [sources]
  "*" = "vendor\"""",
)
@click.argument("patterns", nargs=-1, required=True)
@click.option(
    "--to", required=True, metavar="FOLDER", type=click.Path(file_okay=False, path_type=Path), help="Folder to fill."
)
@build_options
def command(patterns: tuple[str, ...], to: Path, **given: Any) -> int:
    """Copy everything that a build of targets downloads into a folder, from which a closed machine builds them.

    What is not in the store is fetched first. What the folder has is verified, and left as it is or made whole.
    """
    session = Session(working_folder(), os.environ)
    flags = merged(given, session.workspace)
    settings = settings_of(flags)
    graph = session.load(session.patterns(patterns), settings)
    actions = session.analyze(graph, settings)
    outputs = [artifact for provider in actions.providers.values() for artifact in provider.files.values()]
    wanted = materials(actions, actions.closure(outputs))
    console = Console.make(flags.get("progress") or "auto", flags.get("color") or "auto", os.environ)
    with console:
        run = session.builder(settings, console).build(actions, [each.artifact for each in wanted])
        if run.failures:
            raise combined(run)
        made = vendor(to, wanted, session.store)
    for label, fault in actions.skipped.items():
        console.line(f"skipped {label}: {fault.text}", "warning")
    there = len(wanted) - made.written
    console.line(f"{to}: {len(wanted)} files, {human(made.size)}: {made.written} written, {there} were there ({LIST})")
    return 0
