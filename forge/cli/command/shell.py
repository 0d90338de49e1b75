"""`forge shell`."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import Any

import click

from forge.cli.docker_foreground import load_image, run_container, show
from forge.cli.imaging import built_image, variables
from forge.cli.opening import Opened, opened
from forge.cli.options import CONTEXT, build_options, working_folder
from forge.cli.session import Session
from forge.cli.surroundings import Surroundings, surroundings
from forge.execution.docker_executor import ROOTS, root_image
from forge.execution.engine import Engine
from forge.execution.foreground import SandboxStopper, attend
from forge.execution.materialize import materialize
from forge.execution.mount import Mount
from forge.execution.sandbox import Sandbox, find_bwrap

_RESOLVING = ("/etc/hosts", "/etc/resolv.conf")


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge shell //toolchains:build
  forge shell //dev:shell --network=host -- python3 -m pytest
  forge shell //tiny_gpt2:cpu_llm_trf --docker --gpus=all -- python3 -c 'import torch; print(torch.cuda.is_available())'
  forge shell //dev:shell --docker --dry-run -- make test""",
)
@click.argument("label")
@click.argument("program", nargs=-1)
@click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="Environment variable.")
@click.option("--workspace/--noworkspace", default=True, help="Have the workspace there [default: yes].")
@surroundings
@build_options
def command(label: str, program: tuple[str, ...], env: tuple[str, ...], workspace: bool, **flags: Any) -> int:
    """Work in the environment of a target: a shell, or PROGRAM after `--`, with the workspace at /workspace/NAME.

    An image opens its file system, an environment itself, whatever runs a command that command's environment and
    variables. The workspace can be written to, the rest cannot. There is no network unless `--network=host` gives it.
    An engine on another machine sees no folder of this one: `--noworkspace`. The exit code is passed on.
    """
    given = variables(env)
    session = Session(working_folder(), os.environ)
    around = Surroundings.take(flags, session.executor, os.environ)
    bwrap = "" if around.docker else find_bwrap(os.environ)
    found = opened(session, label, flags)
    argv = program or (found.shell(),)
    environ, mounts, workdir = _own(found, around), around.mounts, "/"
    if workspace:
        place = f"/workspace/{session.workspace.workspace.name}"
        mounts = (Mount(str(session.root), place), *mounts)
        workdir = os.path.normpath(f"{place}/{session.cwd.relative_to(session.root).as_posix()}")
        environ = environ if found.is_image else {"PYTHONPATH": place, **environ}
    environ |= {"PYTHONDONTWRITEBYTECODE": "1", **given}
    if around.docker:
        return _container(session, found, around, flags, _Program(argv, environ, mounts, workdir))
    with_host = around.network == "host"
    if with_host:  # names are to be found, as the engine has it in a container
        resolving = [each for each in _RESOLVING if os.path.exists(each)]
        mounts += tuple(Mount(os.path.realpath(each), each, writable=False) for each in resolving)
    root = materialize(session.store, found.root)
    sandbox = Sandbox(
        root, None, None, None, environ,
        workdir=workdir, network=with_host, mounts=mounts, has_terminal=around.has_terminal,
    )  # fmt: skip
    line = sandbox.command(bwrap, argv)
    if around.is_dry:
        click.echo(shlex.join(line))
        return 0
    return attend(line, {}, SandboxStopper, has_terminal=around.has_terminal)


@dataclass(frozen=True, slots=True)
class _Program:
    """What runs in a container, and where."""

    argv: tuple[str, ...]
    environ: dict[str, str]
    mounts: tuple[Mount, ...]
    workdir: str


def _own(found: Opened, around: Surroundings) -> dict[str, str]:
    """Take the target's own variables; a container of an image has those anyhow."""
    terminal = {"TERM": os.environ["TERM"]} if around.has_terminal and "TERM" in os.environ else {}
    if found.is_image:
        return terminal if around.docker else {**found.environ, **terminal}
    return {**found.environ, **terminal}


def _container(session: Session, found: Opened, around: Surroundings, flags: dict[str, Any], program: _Program) -> int:
    engine = Engine(os.environ)
    image = f"{ROOTS}:{found.root.root.hash}"
    if found.is_image:
        built = built_image(session, str(found.label), flags)
        image = built.info.ref if around.is_dry else load_image(session, engine, built)
    elif not around.is_dry:
        image = root_image(session.engine, session.store, found.root)
    run = around.container(
        image,
        argv=program.argv,
        is_whole=True,
        env=program.environ,
        mounts=program.mounts,
        workdir=program.workdir,
        # What is written into the workspace is to be the caller's.
        user=around.user or f"{os.getuid()}:{os.getgid()}",
        network=around.network or "none",
    )
    return show(run, engine) if around.is_dry else run_container(run, engine, {})
