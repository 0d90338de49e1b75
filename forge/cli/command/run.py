"""`forge run`."""

from __future__ import annotations

import os
import socket
from typing import Any

import click

from forge.cli.imaging import runnable_image, variables
from forge.cli.options import CONTEXT, build_options, working_folder
from forge.cli.secret_value import secret_values
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
  forge run //tiny_gpt2:cpu_llm_trf --secret HF_TOKEN=@token.txt
  curl -s localhost:8080/api/infer -d '{"prompts": ["the build"]}'
  forge run //tiny_gpt2:client --port 8080 -- --concurrency 1:4     the client of what runs there""",
)
@click.argument("label")
@click.argument("arguments", nargs=-1)
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port on 127.0.0.1.")
@click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="Environment variable of the service.")
@click.option(
    "--secret",
    multiple=True,
    metavar="NAME[=VALUE|=@FILE]",
    help="Variable of the service alone; without a value that of the environment, or of the file NAME_FILE.",
)
@build_options
def command(
    label: str, arguments: tuple[str, ...], port: int, env: tuple[str, ...], secret: tuple[str, ...], **flags: Any
) -> int:
    """Serve an image here without Docker: from its own file system, in the sandbox, on loopback.

    Ctrl-C stops it; what it has begun is finished. Its exit code is passed on. ARGUMENTS after `--` are its own.
    """
    given = variables(env)
    session = Session(working_folder(), os.environ)
    bwrap = find_bwrap(os.environ)
    image = runnable_image(session, label, flags)
    declared = image.info.app.secrets if image.info.app is not None else ()
    secrets = secret_values(declared, secret, os.environ)
    if image.info.port:  # a client has none, and asks the one that is given
        _check_port(port)
        click.echo(f"Serving {image.label} on http://127.0.0.1:{port} (Ctrl-C stops it)", err=True)
    assert image.root is not None
    environ = {**dict(image.info.environ), **given, "SERVER_IP": "127.0.0.1", "SERVER_PORT": str(port)}
    argv = [*image.info.entrypoint, *arguments]
    environ = {name: value for name, value in environ.items() if name not in secrets}
    return serve(session.store, bwrap, image.root, argv, environ, image.info.workdir, secrets=secrets)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            hint = "Give another with `--port`"
            raise HostError(f"Port {port} cannot be had: {error.strerror}", hint=hint) from error
