"""`forge spec`."""

from __future__ import annotations

import os

import click

from forge.cli.building import outputs_of
from forge.cli.options import CONTEXT, overrides, working_folder
from forge.cli.session import Session, Settings
from forge.cli.specification import Resolver, render_json, render_text, table


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge spec //tiny_gpt2:cpu_llm_trf
  forge spec //tiny_gpt2:cpu_llm_trf > here.txt       and there; then `diff here.txt there.txt`
  forge spec //tiny_gpt2:cpu_llm_trf --output=json | jq -r '.materials[].file'""",
)
@click.argument("label")
@click.option("--override", multiple=True, metavar="//A=//B", help="Put target B wherever A is a dependency.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Form.")
def command(label: str, override: tuple[str, ...], output: str) -> int:
    """Write down all that a target is made of: materials, and each action's words, environment, inputs and key.

    Equal specifications give equal keys, so two machines that differ in a digest differ here, in the line that is the
    cause. Nothing is built: what depends on something that has not been made yet says so, by its name.
    """
    session = Session(working_folder(), os.environ)
    graph = session.load(session.patterns([label]), Settings(override=overrides(override)))
    actions = session.analyze(graph)
    labels = [each for each in graph.requested if each in actions.providers]
    artifacts = [artifact for each in labels for artifact in outputs_of(actions, each).values()]
    steps = Resolver(session.store, session.sources).resolve(actions, actions.closure(artifacts))
    session.sources.save()
    spec = table(graph, labels, actions, steps)
    click.echo(render_json(spec) if output == "json" else render_text(spec), nl=False)
    return 0
