"""`forge run`."""

from __future__ import annotations

import os
import socket
from typing import Any

import click

from forge.cli.imaging import built_image
from forge.cli.options import CONTEXT, build_options, working_folder
from forge.cli.session import Session
from forge.core.errors import HostError
from forge.execution.sandbox import find_bwrap
from forge.execution.serve import serve


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge run //tiny_gpt2:cpu_llm_trf
  forge run //tiny_gpt2:cpu_llm_trf --port 8080 --env TEMPERATURE=0.2
  curl -s localhost:8080/api/infer -d '{"prompts": ["the build"]}'""",
)
@click.argument("label")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port on 127.0.0.1.")
@click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="Environment variable of the service.")
@build_options
def command(label: str, port: int, env: tuple[str, ...], **flags: Any) -> int:
    """Serve an image here without Docker: from its own file system, in the sandbox, on loopback.

    Ctrl-C stops it; what it has begun is finished. Its exit code is passed on.
    """
    variables = {}
    for text in env:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--env {text} has no `=`")
        variables[name] = value
    session = Session(working_folder(), os.environ)
    bwrap = find_bwrap(os.environ)
    image = built_image(session, label, flags, root=True)
    if image.info.arch != session.execution.arch:
        raise HostError(f"`{image.label}` is for `{image.info.arch}`, this machine is `{session.execution.arch}`")
    _check_port(port)
    assert image.root is not None
    click.echo(f"Serving {image.label} on http://127.0.0.1:{port} (Ctrl-C stops it)", err=True)
    environ = {**dict(image.info.environ), **variables, "SERVER_IP": "127.0.0.1", "SERVER_PORT": str(port)}
    return serve(session.store, bwrap, image.root, image.info.entrypoint, environ, image.info.workdir)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            hint = "Give another with `--port`"
            raise HostError(f"Port {port} cannot be had: {error.strerror}", hint=hint) from error
