"""`forge run`."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import click

from forge.cli.docker_foreground import load_image, run_container, show
from forge.cli.imaging import built_image, chosen_layout, only_image, runnable_image, variables
from forge.cli.options import CONTEXT, build_options, working_folder
from forge.cli.secret_value import secret_values
from forge.cli.session import Session
from forge.cli.surroundings import Surroundings, surroundings
from forge.core.errors import HostError, UsageError
from forge.core.provider import ImageInfo
from forge.execution.docker_run import DockerRun
from forge.execution.engine import Engine
from forge.execution.sandbox import find_bwrap
from forge.execution.serve import serve


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge run //tiny_gpt2:cpu_llm_trf
  forge run //tiny_gpt2:cpu_llm_trf --port 8080 --env TEMPERATURE=0.2
  forge run //tiny_gpt2:cpu_llm_trf --secret HF_TOKEN=@token.txt
  forge run //tiny_gpt2:cpu_llm_trf --docker --gpus=all --shm-size=16g --volume ~/data:/data:ro
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
@surroundings
@build_options
def command(
    label: str, arguments: tuple[str, ...], port: int, env: tuple[str, ...], secret: tuple[str, ...], **flags: Any
) -> int:
    """Serve an image here, on loopback: in the sandbox, from its own file system, or as a container with `--docker`.

    Ctrl-C stops it; what it has begun is finished. Its exit code is passed on. ARGUMENTS after `--` are its own.
    """
    given = variables(env)
    session = Session(working_folder(), os.environ)
    around = Surroundings.take(flags, session.executor, os.environ)
    if around.docker:
        return _container(session, label, flags, around, _Service(arguments, port, given, secret))
    if around.is_dry:
        raise UsageError("`--dry-run` prints how a container is run", hint="Add `--docker`")
    bwrap = find_bwrap(os.environ)
    image = runnable_image(session, label, flags)
    secrets = _secrets(image.info, secret)
    if image.info.port:  # a client has none, and asks the one that is given
        _check_port(port)
        click.echo(f"Serving {image.label} on http://127.0.0.1:{port} (Ctrl-C stops it)", err=True)
    assert image.root is not None
    environ = {**dict(image.info.environ), **given, "SERVER_IP": "127.0.0.1", "SERVER_PORT": str(port)}
    argv = [*image.info.entrypoint, *arguments]
    environ = {name: value for name, value in environ.items() if name not in secrets}
    about = argv, environ, image.info.workdir
    network = around.network != "none"
    return serve(session.store, bwrap, image.root, *about, secrets=secrets, mounts=around.mounts, network=network)


@dataclass(frozen=True, slots=True)
class _Service:
    """What the command line says of the service itself."""

    arguments: tuple[str, ...]
    port: int
    env: dict[str, str]
    secret: tuple[str, ...]

    def run(self, info: ImageInfo, around: Surroundings, secrets: Iterable[str]) -> DockerRun:
        """Say how its container is run."""
        publish, env = around.publish, dict(self.env)
        if info.port and around.network == "host":
            env |= {"SERVER_IP": "127.0.0.1", "SERVER_PORT": str(self.port)}
        elif info.port and around.network != "none":
            publish = (f"127.0.0.1:{self.port}:{info.port}", *publish)
        return around.container(info.ref, argv=self.arguments, env=env, secrets=tuple(sorted(secrets)), publish=publish)


def _container(session: Session, label: str, flags: dict[str, Any], around: Surroundings, service: _Service) -> int:
    engine = Engine(os.environ)
    if around.is_dry:
        name, chosen, _ = chosen_layout(session, label, flags)
        info = only_image(name, chosen)
        declared = info.app.secrets if info.app is not None else ()
        names = {*declared, *(text.partition("=")[0] for text in service.secret)}
        return show(service.run(info, around, names), engine)
    engine.api()  # before the build: where there is no engine, that is said at once
    image = built_image(session, label, flags)
    secrets = _secrets(image.info, service.secret)
    if image.info.port and around.network != "none":
        _check_port(service.port)
    load_image(session, engine, image)
    if image.info.port and around.network != "none":
        click.echo(f"Serving {image.label} on http://127.0.0.1:{service.port} (Ctrl-C stops it)", err=True)
    return run_container(service.run(image.info, around, secrets), engine, secrets)


def _secrets(info: ImageInfo, given: tuple[str, ...]) -> dict[str, str]:
    return secret_values(info.app.secrets if info.app is not None else (), given, os.environ)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            hint = "Give another with `--port`"
            raise HostError(f"Port {port} cannot be had: {error.strerror}", hint=hint) from error
