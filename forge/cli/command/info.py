"""`forge info`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from forge import __version__
from forge.cli.fidelity import Row, detail_rows, model_report, summary_rows
from forge.cli.imaging import BuiltIndex, built_layout
from forge.cli.options import CONTEXT, build_options, working_folder
from forge.cli.session import Session
from forge.core.errors import ForgeError
from forge.execution.sandbox import find_bwrap


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge info
  forge info sources                    where materials come from
  forge info platforms                  platforms, and the parameters of their backends
  forge info //tiny_gpt2:cpu_llm_trf    layers of an image
  forge info //tiny_gpt2:gguf           how faithful a converted model is""",
)
@click.argument("topic", required=False)
@build_options
def command(topic: str | None, **flags: Any) -> int:
    """Show how forge is set up, what an image is made of, or how faithful a converted model is."""
    session = Session(working_folder(), os.environ)
    if topic is None:
        _table(_setup(session))
    elif topic == "sources":
        _table([(row.source, f"{row.address}  ({row.origin})") for row in session.places.show()])
    elif topic == "platforms":
        _platforms(session)
    elif (report := model_report(session, topic, flags)) is not None:
        _table(summary_rows(report))
        click.echo()
        _table(detail_rows(report))
    else:
        found = built_layout(session, topic, flags)
        if isinstance(found, BuiltIndex):
            _table(
                [
                    ("index", found.summary.digest.oci),
                    *((each.architecture, each.manifest.oci) for each in found.summary.images),
                ]
            )
            return 0
        summary = found.summary
        _table(
            [("manifest", summary.manifest.oci), ("config", summary.config.oci), ("architecture", summary.architecture)]
        )
        for layer in summary.layers:
            click.echo(f"{layer.digest.oci}  {layer.digest.size:>12}  {layer.created_by}")
    return 0


def _setup(session: Session) -> list[tuple[str, str]]:
    try:
        sandbox = find_bwrap(session.environ)
    except ForgeError as error:
        sandbox = error.faults[0].text
    return [
        ("version", __version__),
        ("workspace", str(session.root)),
        ("packages", str(session.root / session.workspace.workspace.packages)),
        ("home", str(session.store.home)),
        ("state", str(session.state)),
        ("execution platform", session.execution.name),
        ("sandbox", sandbox),
        ("python", sys.executable),
    ]


def _platforms(session: Session) -> None:
    for name, toolchain in sorted(session.toolchains.toolchains.items()):
        platform = toolchain.platform
        about = [f"accelerator {platform.accelerator}"]
        about += [f"driver {platform.driver} or newer"] if platform.driver else []
        about += [f"JetPack {platform.jetpack}"] if platform.jetpack else []
        click.echo(f"{name}: {platform.device}, {platform.arch}, {', '.join(about)}")
        for parameter in toolchain.backend.parameters if toolchain.backend else ():
            click.echo(f"    {parameter.name} = {parameter.default!r}  {parameter.doc}")
    click.echo("What goes together is in compatibility.toml; a version that has no row there is let pass.")


def _table(rows: Sequence[Row]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
