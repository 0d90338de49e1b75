"""`forge graph`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from forge.cli import drawing
from forge.cli.options import CONTEXT, working_folder
from forge.cli.session import Session
from forge.core.target import Target
from forge.execution.home import host_errors


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge graph //tiny_gpt2:cpu_llm_trf --format=html --to=graph.html
  forge graph //... | dot -Tsvg > graph.svg
  forge graph //tiny_gpt2:all --format=mermaid""",
)
@click.argument("patterns", nargs=-1, required=True)
@click.option("--format", "form", type=click.Choice(["dot", "mermaid", "html"]), default="dot", show_default=True)
@click.option("--to", default="-", metavar="PATH|-", show_default=True, help="File to write, or - for standard output.")
def command(patterns: tuple[str, ...], form: str, to: str) -> int:
    """Draw targets and what they depend on: as DOT, as Mermaid, or as one HTML page."""
    session = Session(working_folder(), os.environ)
    graph = session.loader().load(session.patterns(patterns), manual=True)
    nodes = [_node(graph.targets[label]) for label in graph.order()]
    if form == "html":
        text = drawing.page(nodes, " ".join(patterns))
    else:
        text = drawing.dot(nodes) if form == "dot" else drawing.mermaid(nodes)
    if to == "-":
        click.echo(text, nl=False)
        return 0
    with host_errors(Path(to)):
        Path(to).write_text(text)
    click.echo(f"{to}: {len(nodes)} targets", err=True)
    return 0


def _node(target: Target) -> drawing.Node:
    facts = [(key, str(value)) for key, value in target.declared.items() if key != "rule"]
    facts.append(("declared at", target.place))
    platform = target.platform.name if target.platform else ""
    deps = tuple(str(dep) for dep in target.dependencies())
    return drawing.Node(str(target.label), target.rule, platform, deps, tuple(facts))
