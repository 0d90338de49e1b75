"""`forge load`."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from forge.cli.console import Console, human
from forge.cli.imaging import BuiltIndex, built_layout
from forge.cli.options import CONTEXT, build_options, merged, working_folder
from forge.cli.session import Session
from forge.cli.thin_load import load_thin
from forge.execution.engine import Engine
from forge.oci.export import export_docker_index


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge load //tiny_gpt2:cpu_llm_trf
  docker run --rm --publish 127.0.0.1:3000:3000 $(forge load //tiny_gpt2:cpu_llm_trf)""",
)
@click.argument("label")
@click.option("--ref", help="Name and tag in the engine [default: the image's own].")
@build_options
def command(label: str, ref: str | None, **flags: Any) -> int:
    """Build an image and load it into the local Docker engine, which gets only the blobs that it lacks.

    So it is where the engine's store is containerd's; one of the classic kind, and any that will not have
    it so, gets the whole image.
    """
    begun = time.monotonic()
    session = Session(working_folder(), os.environ)
    engine = Engine(os.environ)
    present = engine.images()  # before the build: where there is no engine, that is said at once
    image = built_layout(session, label, flags)
    name = ref or image.info.ref
    if isinstance(image, BuiltIndex):
        size = 0
        if engine.image(name) != image.summary.digest.oci:
            engine.load(lambda out: export_docker_index(image.layout, session.store, out, name))
            size = sum(digest.size for digest in {layer.digest for one in image.summary.images for layer in one.layers})
    else:
        size = load_thin(engine, session.store, image.layout, name, present)
    click.echo(name)
    given = merged(flags, session.workspace)
    console = Console.make(given.get("progress") or "auto", given.get("color") or "auto", os.environ)
    console.line(f"{image.label} loaded: {human(size)} of layers, {time.monotonic() - begun:.1f} s")
    return 0
