"""Targets to actions: calls each rule once, dependencies first."""

from __future__ import annotations

from collections.abc import Mapping

from forge.analysis.context import Context, ToolVersions
from forge.core.action import Action
from forge.core.errors import AnalysisError, Fault, Unavailable
from forge.core.graph import ActionGraph
from forge.core.label import Label
from forge.core.provider import Provider
from forge.core.rule import Rule
from forge.core.target import TargetGraph


def analyze(
    graph: TargetGraph, rules: Mapping[str, Rule], tools: ToolVersions, settings: Mapping[str, str]
) -> ActionGraph:
    """Analyze every target; AnalysisError with all faults.

    What cannot be built here is skipped, with all that depend on it, unless it was named outright.
    """
    actions: dict[str, Action] = {}
    providers: dict[Label, Provider] = {}
    skipped: dict[Label, Fault] = {}
    faults: list[Fault] = []
    broken: set[Label] = set()
    for label in graph.order():
        target = graph.targets[label]
        missing = [dep for dep in target.dependencies() if dep in skipped]
        if any(dep in broken for dep in target.dependencies()):
            broken.add(label)
            continue
        if missing:
            skipped[label] = skipped[missing[0]]
            continue
        context = Context(target, graph.toolchains, graph.execution, providers, tools, settings, graph.runtime)
        try:
            provider = rules[target.rule].analyze(context, target.attrs)
            if not isinstance(provider, Provider):
                raise context.error(f"Rule `{target.rule}` gives no provider for `{label}`", "Let `analyze` return one")
            providers[label] = provider
        except Unavailable as error:
            skipped[label] = error.faults[0]
        except AnalysisError as error:
            faults.extend(error.faults)
            broken.add(label)
        else:
            actions.update(context.actions)
    faults.extend(skipped[label] for label in sorted(graph.outright) if label in skipped)
    faults.extend(_twice_made(graph, providers))
    if faults:
        raise AnalysisError(*dict.fromkeys(faults))
    return ActionGraph(actions, providers, {label: skipped[label] for label in graph.requested if label in skipped})


def _twice_made(graph: TargetGraph, providers: Mapping[Label, Provider]) -> list[Fault]:
    """Find outputs of one name in one package: one would replace the other below `forge-out`."""
    owners: dict[str, Label] = {}
    faults = []
    for label, provider in providers.items():
        for name in provider.files:
            path = f"{label.package}/{name.rstrip('/')}"
            other = owners.setdefault(path, label)
            if other != label:
                text = f"`{other}` and `{label}` both make `{path.lstrip('/')}`"
                faults.append(Fault(text, graph.targets[label].place, "Give one of the outputs another name"))
    for path, label in owners.items():
        parts = path.split("/")
        above = next(
            (owners["/".join(parts[:end])] for end in range(1, len(parts)) if "/".join(parts[:end]) in owners), label
        )
        if above != label:
            text = f"`{label}` makes `{path.lstrip('/')}` below what `{above}` makes"
            faults.append(Fault(text, graph.targets[label].place, "Give one of the outputs another name"))
    return faults
