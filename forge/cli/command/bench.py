"""`forge bench`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from typing import IO, Any

import click

from forge.cli.imaging import runnable_image, variables
from forge.cli.options import CONTEXT, build_options, working_folder
from forge.cli.session import Session, builtin
from forge.core.errors import ActionFailed, UserError
from forge.execution.sandbox import find_bwrap
from forge.execution.serve import Service, started

LOG_LINES, LOG_BYTES = 20, 1 << 16
LOAD_SECONDS = "600"
"""What a service gets to load its model, unless `--wait` says otherwise."""
CLIENT_SECONDS = 5.0
"""What the load generator gets to hang up when it is interrupted."""
SERVER_SECONDS = 5.0
"""And the service, which by then has nothing to do."""
OTHERS = {"DATASET", "DATASET_SIZE", "NUMBER_OF_REQUESTS", "NUMBER_OF_WARMUPS", "FORGE_CLIENT_CONFIG"}
"""Variables that the client knows in its image. Here flags say it all."""

_PATH = click.Path(dir_okay=False)
_CLIENT = (
    click.Option(["--api"], type=click.Choice(["infer", "completions", "chat", "oip"]), help="Interface to ask."),
    click.Option(["--model"], metavar="NAME", help="Name of the model [default: what the server says]."),
    click.Option(["--dataset"], metavar="PATH", help="Prompts, tensors, a picture, a zip or a folder of files."),
    click.Option(["--dataset-size"], metavar="N", help="Only the first N items, or all."),
    click.Option(["--prompt"], multiple=True, metavar="TEXT", help="A prompt instead of a data set."),
    click.Option(["--batch"], metavar="N", help="Items in one request [default: 1]."),
    click.Option(["--max-tokens"], metavar="N", help="Tokens to generate at most."),
    click.Option(["--stream/--no-stream"], default=None, help="Take tokens as they come [default: yes]."),
    click.Option(["--check/--no-check"], default=None, help="Look into the answers [default: yes]."),
    click.Option(["--header"], multiple=True, metavar="'NAME: VALUE'", help="Header of every request."),
    click.Option(
        ["--concurrency"], metavar="A:B:STEP", help="Closed loop: clients at a time, or a sweep [default: 1]."
    ),
    click.Option(["--rate"], metavar="A:B:STEP", help="Open loop: requests a second, or a sweep."),
    click.Option(["--pacing"], type=click.Choice(["constant", "poisson"]), help="Open loop: evenly, or by chance."),
    click.Option(["--seed"], metavar="N", help="Of all that is by chance [default: 0]."),
    click.Option(["--requests"], metavar="N", help="Requests of each level [default: 100]."),
    click.Option(["--duration"], metavar="SECONDS", help="Of each level, instead of a number of requests."),
    click.Option(["--warmup"], metavar="N", help="Requests before, which do not count [default: 5]."),
    click.Option(["--retries"], metavar="N", help="After a lost connection, 429 or 503 [default: 3]."),
    click.Option(["--connect-timeout"], metavar="SECONDS", help="For a connection [default: 5]."),
    click.Option(["--first-byte-timeout"], metavar="SECONDS", help="For the first byte of an answer [default: 120]."),
    click.Option(["--timeout"], metavar="SECONDS", help="For a whole answer [default: 300]."),
    click.Option(["--max-connections"], metavar="N", help="Open loop: connections at most [default: 512]."),
    click.Option(["--max-errors"], metavar="N|P%", help="Requests of a level that may fail [default: 0]."),
    click.Option(["--max-latency-ms"], metavar="MS", help="End the sweep when p99 is above."),
    click.Option(["--server-metrics"], is_flag=True, default=None, help="Tell the server's own times beside."),
    click.Option(["--wait"], metavar="SECONDS", help="How long it may take to be ready [default: 600; a URL: 10]."),
    click.Option(["--json"], type=_PATH, metavar="FILE", help="Write everything as JSON."),
    click.Option(["--html"], type=_PATH, metavar="FILE", help="Write a page with plots."),
    click.Option(["--tag"], multiple=True, metavar="NAME=VALUE", help="Put this into the report."),
)
"""Options that are the load generator's own: they are handed on as they are."""


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge bench //tiny_gpt2:cpu_llm_trf --concurrency 1:8 --html report.html
  forge bench //tiny_gpt2:cpu_llm_trf --rate 10:50:10 --duration 20 --server-metrics
  forge bench http://127.0.0.1:3000 --dataset prompts.json --requests 500 --output json
\b
Exit codes: 0 all answered, 1 some not, or nothing was built, 2 bad command line, 3 no server that is ready.""",
)
@click.argument("target", metavar="LABEL|URL")
@click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="Environment variable of the service.")
@build_options
def command(target: str, env: tuple[str, ...], **flags: Any) -> int:
    """Put a server under load and tell how it does; an image is built and served here first.

    A closed loop has so many clients, each of which waits for its answer; an open loop (`--rate`) sends so many
    requests a second, whatever the server does.
    """
    client = {str(option.name): flags.pop(str(option.name)) for option in _CLIENT}
    words = ["--output=json"] if flags.get("output") == "json" else []
    words += ["--quiet"] if flags.get("progress") == "quiet" else []
    if "://" in target:
        if env:
            raise click.UsageError("--env is for an image that is served here")
        return _attend(_start(target, [*words, *_words(client)]), None, None)
    given = variables(env)
    session = Session(working_folder(), os.environ)
    bwrap = find_bwrap(os.environ)
    image = runnable_image(session, target, flags)
    if not image.info.port:
        hint = "Name the image of a service, or the URL of a server"
        raise UserError(f"`{image.label}` listens on no port: there is nothing to measure", hint=hint)
    client["wait"] = client["wait"] or LOAD_SECONDS
    words += [*_words(client), f"--tag=target={image.label}", f"--tag=image={image.summary.manifest.oci}"]
    port = _free_port()
    environ = {**dict(image.info.environ), **given, "SERVER_IP": "127.0.0.1", "SERVER_PORT": str(port)}
    assert image.root is not None
    argv, workdir = image.info.entrypoint, image.info.workdir
    with (
        tempfile.TemporaryFile() as log,
        started(session.store, bwrap, image.root, argv, environ, workdir, log=log) as service,
    ):
        click.echo(f"Measuring {image.label} on http://127.0.0.1:{port} (Ctrl-C stops it)", err=True)
        try:
            return _attend(_start(f"http://127.0.0.1:{port}", words), service, log)
        finally:
            service.stop(SERVER_SECONDS)


command.params[2:2] = _CLIENT


def _start(url: str, words: list[str]) -> subprocess.Popen[bytes]:
    """Start the load generator, which is no part of forge but of what images carry."""
    kept = {name: value for name, value in os.environ.items() if name not in OTHERS and not name.startswith("PYTHON")}
    environ = {**kept, "PYTHONPATH": str(builtin("runtime")), "PYTHONDONTWRITEBYTECODE": "1"}
    # A session of its own: Ctrl-C is for forge, which tells it. -P and -s: nothing of the folder or user is imported.
    line = [sys.executable, "-P", "-s", "-m", "forge_client", *words, "--", url]
    return subprocess.Popen(line, env=environ, stdin=subprocess.DEVNULL, start_new_session=True)


def _attend(client: subprocess.Popen[bytes], service: Service | None, log: IO[bytes] | None) -> int:
    """Wait until it has measured; its exit code. ActionFailed when the service ends before it."""
    if service is not None:
        # Asleep, each in a thread of its own: what is measured shares this machine.
        threading.Thread(target=_outlive, args=(service, client), daemon=True).start()
    try:
        code = client.wait()
    finally:
        _end(client)
    if code and service is not None and service.code is not None and log is not None:
        text = f"The service ended with {service.code} while it was measured"
        raise ActionFailed(text, hint="Its log is above; `forge run` serves it alone", log=_tail(log))
    return code


def _outlive(service: Service, client: subprocess.Popen[bytes]) -> None:
    """End the load generator when the service ends before it."""
    service.wait()
    client.terminate()


def _end(client: subprocess.Popen[bytes]) -> None:
    if client.poll() is None:
        client.terminate()
        try:
            client.wait(CLIENT_SECONDS)
        except subprocess.TimeoutExpired:
            client.kill()
            client.wait()


def _tail(log: IO[bytes]) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_BYTES))
    return "\n".join(log.read().decode(errors="replace").splitlines()[-LOG_LINES:])


def _words(client: Mapping[str, Any]) -> list[str]:
    """Say options as the load generator takes them; what was not given is left to it."""
    words = []
    for name, value in client.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, tuple):
            words += [f"--{flag}={each}" for each in value]
        elif value is not None:
            words.append(f"--{flag}={value}")
    return words


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
