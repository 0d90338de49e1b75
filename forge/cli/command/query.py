"""`forge query`."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from forge.analysis.query import evaluate, patterns_of
from forge.cli.options import CONTEXT, working_folder
from forge.cli.session import Session
from forge.core.errors import ForgeError, QueryError
from forge.core.label import Label, TargetPattern, select
from forge.core.target import Target, TargetGraph

FORMS = ["label", "label_kind", "json", "toml", "graph"]


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge query //...
  forge query 'deps(//tiny_gpt2:cpu_llm_trf)'
  forge query 'rdeps(//..., //tiny_gpt2:weights)'
  forge query 'kind(image, //...) - //tiny_gpt2:all'
  forge query --output=toml //tiny_gpt2:server

Functions: deps rdeps kind filter attr tests somepath allpaths set; operators: + - ^ (union except intersect).""",
)
@click.argument("expression", nargs=-1, required=True)
@click.option("--output", type=click.Choice(FORMS), default="label", show_default=True, help="Form of the answer.")
def command(expression: tuple[str, ...], output: str) -> int:
    """Ask about the graph of targets; prints labels, sorted."""
    session = Session(working_folder(), os.environ)
    text = " ".join(expression)
    try:
        names = patterns_of(text)
        patterns = session.patterns([name for name in names if not name.startswith("-")])
        loader = session.loader()
        graph = loader.load(patterns, manual=True)

        def match(pattern: str) -> frozenset[Label]:
            parsed = TargetPattern.parse(pattern, session.package)
            if parsed.is_wildcard:
                return frozenset(select([parsed], graph.targets))
            label = Label(parsed.package, parsed.name)
            return frozenset(graph.generators.get(label, (label,)))

        labels = evaluate(text, graph, match)
    except QueryError:
        raise
    except ForgeError as error:
        raise QueryError(*error.faults) from error
    click.echo(render(graph, labels, output), nl=False)
    return 0


def render(graph: TargetGraph, labels: tuple[Label, ...], form: str) -> str:
    """Write targets in one of FORMS."""
    targets = [graph.targets[label] for label in labels]
    if form == "json":
        return json.dumps([_table(target) for target in targets], indent=2, default=str) + "\n"
    if form == "toml":
        return "\n".join(_toml(target) for target in targets)
    if form == "graph":
        edges = [
            f'  "{target.label}" -> "{dep}"\n'
            for target in targets
            for dep in target.dependencies()
            if dep in set(labels)
        ]
        nodes = [f'  "{label}"\n' for label in labels]
        return "digraph targets {\n" + "".join(nodes + edges) + "}\n"
    if form == "label_kind":
        return "".join(f"{target.rule} rule {target.label}\n" for target in targets)
    return "".join(f"{label}\n" for label in labels)


def _table(target: Target) -> dict[str, Any]:
    return {
        "label": str(target.label),
        "rule": target.rule,
        "platform": target.platform.name if target.platform else None,
        "place": target.place,
        "tags": sorted(target.tags),
        "deps": [str(dep) for dep in target.dependencies()],
        "attributes": {key: value for key, value in target.declared.items() if key != "rule"},
    }


def _toml(target: Target) -> str:
    platform = f", {target.platform.name}" if target.platform else ""
    lines = [f"# {target.place}{platform}", f'["{target.label.name}"]']
    told = {**target.declared, **({"tags": sorted(target.tags)} if target.tags else {})}
    return "\n".join([*lines, *(f"{key} = {_value(value)}" for key, value in told.items())]) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, default=str)
