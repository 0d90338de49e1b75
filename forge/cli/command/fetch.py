"""`forge fetch`."""

from __future__ import annotations

import os
from typing import Any

import click

from forge.cli.building import settings_of
from forge.cli.console import Console, human
from forge.cli.failure import combined
from forge.cli.options import CONTEXT, build_options, merged, working_folder
from forge.cli.session import Session
from forge.core.artifact import Derived
from forge.core.tool import FileContent


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge fetch //...
  forge fetch //tiny_gpt2:cpu_llm_trf && forge build --offline //tiny_gpt2:cpu_llm_trf""",
)
@click.argument("patterns", nargs=-1, required=True)
@build_options
def command(patterns: tuple[str, ...], **given: Any) -> int:
    """Download everything that targets need, so that they can be built with --offline."""
    session = Session(working_folder(), os.environ)
    flags = merged(given, session.workspace)
    settings = settings_of(flags)
    graph = session.load(session.patterns(patterns), settings)
    actions = session.analyze(graph, settings)
    outputs = [art for provider in actions.providers.values() for art in provider.files.values()]
    needed = [name for name in actions.closure(outputs) if actions.actions[name].is_download]
    console = Console.make(flags.get("progress") or "auto", flags.get("color") or "auto", os.environ)
    with console:
        builder = session.builder(settings, console)
        run = builder.build(actions, [Derived(name, actions.actions[name].outputs[0]) for name in needed])
    if run.failures:
        raise combined(run)
    contents = [content for name in needed for content in run.contents[name].values()]
    size = sum(content.digest.size for content in contents if isinstance(content, FileContent))
    console.line(f"{len(needed)} files, {human(size)}: {len(run.ran)} downloaded, the rest was there")
    return 0
