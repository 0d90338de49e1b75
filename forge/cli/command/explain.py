"""`forge explain`."""

from __future__ import annotations

import os

import click

from forge.cli.building import outputs_of
from forge.cli.options import CONTEXT, working_folder
from forge.cli.session import Session
from forge.execution.trace import FIRST


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge explain //tiny_gpt2:cpu_llm_trf
  forge explain //tiny_gpt2:cpu_llm_trf --all""",
)
@click.argument("patterns", nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="Every action, not those of the latest build alone.")
def command(patterns: tuple[str, ...], everything: bool) -> int:
    """Say which field or input made each action of a target run."""
    session = Session(working_folder(), os.environ)
    graph = session.load(session.patterns(patterns))
    actions = session.analyze(graph)
    labels = [label for label in graph.requested if label in actions.providers]
    artifacts = [artifact for label in labels for artifact in outputs_of(actions, label).values()]
    names = actions.closure(artifacts)
    runs = {name: session.traces.last_run(name) for name in names}
    builds = [run[0] for run in runs.values() if run]
    if not builds:
        click.echo(f"None of {len(names)} actions has run in this workspace: nothing was built, or all was cached")
        return 0
    latest = max(builds)
    shown = first = 0
    for name in names:
        run = runs[name]
        if run is None or (run[0] != latest and not everything):
            continue
        if run[1] == [FIRST] and not everything:
            first += 1
            continue
        shown += 1
        ago = session.traces.build - run[0]
        when = "the last build" if ago == 0 else f"{ago} build{'s' if ago > 1 else ''} before the last"
        click.echo(f"{actions.actions[name].description} ran in {when}, because")
        for reason in run[1]:
            click.echo(f"    {reason}")
    if first:
        click.echo(f"{first} actions ran for the first time; `--all` lists them")
    click.echo(f"{shown} of {len(names)} actions shown", err=True)
    return 0
