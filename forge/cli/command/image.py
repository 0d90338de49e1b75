"""`forge image`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import click

from forge.cli.imaging import BuiltImage, BuiltIndex, built_layout, built_sbom
from forge.cli.options import CONTEXT, build_options, working_folder
from forge.cli.session import Session
from forge.core.errors import UsageError
from forge.execution.home import host_errors
from forge.oci.export import export_docker, export_docker_index, export_oci
from forge.oci.summary import ImageSummary


@click.group(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge image export //tiny_gpt2:cpu_llm_trf --format=docker --to=- | docker load
  forge image export //tiny_gpt2:cpu_llm_trf --format=oci --to=image.tar
  forge image inspect //tiny_gpt2:cpu_llm_trf
  forge image sbom //tiny_gpt2:cpu_llm_trf > sbom.json""",
)
def command() -> None:
    """Export and inspect images, and list what they are made of."""


@command.command(context_settings=CONTEXT)
@click.argument("label")
@click.option(
    "--format",
    "form",
    type=click.Choice(["oci", "docker"]),
    default="oci",
    show_default=True,
    help="Form of the archive.",
)
@click.option("--to", required=True, metavar="PATH|-", help="File to write, or - for standard output.")
@click.option("--ref", help="Name and tag in the archive [default: the image's own].")
@build_options
def export(label: str, form: str, to: str, ref: str | None, **flags: Any) -> int:
    """Write an image as one archive, for `docker load`, `skopeo` and their like."""
    if to == "-" and sys.stdout.isatty():
        raise UsageError("An archive does not belong on a terminal", hint="Give `--to=PATH`, or a pipe")
    session = Session(working_folder(), os.environ)
    image = built_layout(session, label, flags)
    if to == "-":
        _write(session, image, form, ref, sys.stdout.buffer)
        sys.stdout.flush()
        return 0
    target = Path(to)
    if target.is_dir() or not target.parent.is_dir():
        raise UsageError(f"`{to}` is not a file that can be written", hint="Name a file in a folder that exists")
    with host_errors(target):
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                _write(session, image, form, ref, file)
            os.chmod(name, 0o644)
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    digest = image.summary.digest if isinstance(image, BuiltIndex) else image.summary.manifest
    click.echo(f"{target}: {image.label}, {digest.oci}", err=True)
    return 0


@command.command(context_settings=CONTEXT)
@click.argument("label")
@build_options
def inspect(label: str, **flags: Any) -> int:
    """Print an image's manifest and configuration as JSON; of an index the index, with those of its images."""
    import json

    session = Session(working_folder(), os.environ)
    found = built_layout(session, label, flags)

    def documents(image: ImageSummary) -> dict[str, Any]:
        manifest, config = (json.loads(session.store.read(each)) for each in (image.manifest, image.config))
        return {"manifest": manifest, "config": config}

    table: dict[str, Any] = {"ref": found.info.ref}
    if isinstance(found, BuiltIndex):
        table |= {"digest": found.summary.digest.oci, "index": json.loads(session.store.read(found.summary.digest))}
        table["images"] = [{"digest": each.manifest.oci, **documents(each)} for each in found.summary.images]
    else:
        table |= {"digest": found.summary.manifest.oci, **documents(found.summary)}
    click.echo(json.dumps(table, indent=2))
    return 0


@command.command(context_settings=CONTEXT)
@click.argument("label")
@build_options
def sbom(label: str, **flags: Any) -> int:
    """Print what an image is made of, with licences, as CycloneDX JSON."""
    document = built_sbom(Session(working_folder(), os.environ), label, flags)
    sys.stdout.buffer.write(document)
    sys.stdout.flush()
    return 0


def _write(session: Session, image: BuiltImage | BuiltIndex, form: str, ref: str | None, out: BinaryIO) -> None:
    if form == "docker":
        write = export_docker_index if isinstance(image, BuiltIndex) else export_docker
        write(image.layout, session.store, out, ref or image.info.ref)
    else:
        export_oci(image.layout, session.store, out)
