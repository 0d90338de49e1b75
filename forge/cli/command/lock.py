"""`forge lock`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from forge.cli.exporting import export_pylock
from forge.cli.options import CONTEXT, working_folder
from forge.cli.session import Session
from forge.core import lock as locks
from forge.core.digest import Digest
from forge.core.errors import UserError
from forge.core.label import TargetPattern
from forge.core.lock import Lock, LockRequest
from forge.packages.lock_debian import DebianRequest, lock_debian
from forge.packages.lock_model import lock_model
from forge.packages.lock_python import PythonRequest, lock_python
from forge.packages.lock_sdist import lock_sdist
from forge.packages.target_python import PythonTarget
from forge.packages.upgrade import Upgrade


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge lock                          lock what is not locked, or whose request changed
  forge lock //tiny_gpt2:maker
  forge lock //gpt2:weights           pin a model: its commit, and the digest of each file
  forge lock --check                  fail when a lock is missing or stale (for CI)
  forge lock --upgrade //toolchains:cpu_llm_trf
  forge lock --export=pylock --to=pylock.toml //toolchains:cpu_llm_trf""",
)
@click.argument("patterns", nargs=-1)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when a lock is missing or stale.")
@click.option("--upgrade", is_flag=True, help="Resolve anew, taking newer versions.")
@click.option(
    "--export",
    type=click.Choice(["pylock"]),
    help="Resolve nothing; write the wheels of one environment for pip and uv.",
)
@click.option("--to", metavar="FILE", help="With --export, the file to write [default: standard output].")
@click.option(
    "--vendored", metavar="FOLDER", help="With --export, where the wheels will be [default: vendor, beside FILE]."
)
def command(
    patterns: tuple[str, ...], check: bool, upgrade: bool, export: str | None, to: str | None, vendored: str | None
) -> int:
    """Resolve requirements into lock files: the only command that resolves anything."""
    if (to or vendored) and not export:
        raise click.UsageError("--to and --vendored are for --export")
    if export and (check or upgrade or len(patterns) != 1):
        raise click.UsageError("--export takes one target, and neither --check nor --upgrade")
    session = Session(working_folder(), os.environ)
    if export:
        return export_pylock(session, patterns[0], to, vendored)
    parsed = (
        session.patterns(patterns)
        if patterns
        else (TargetPattern("recursive", ""), TargetPattern("package", "toolchains"))
    )
    graph = session.loader().load(parsed, manual=True)
    requests: dict[Path, tuple[LockRequest, Lock | None]] = {}
    for label in graph.requested:
        target = graph.targets[label]
        for request in target.lock_requests:
            path = Path(target.folder) / request.file
            requests[path] = (request, target.locks.get(request.name))
    if not requests:
        click.echo("Nothing to lock: no target asks for packages or fetched models", err=True)
        return 0
    stale = []
    for path, (request, previous) in sorted(requests.items()):
        fresh = request.is_answered_by(previous)
        shown = os.path.relpath(path, session.cwd)
        if check:
            if not fresh:
                stale.append(shown)
            for each in previous.missing if previous is not None and fresh else ():
                click.echo(f"warning: {shown} lacks {each}", err=True)
        elif fresh and not upgrade and previous is not None and not previous.missing:
            click.echo(f"{shown}: up to date", err=True)
        else:
            _write(session, path, shown, request, previous, Upgrade(everything=upgrade))
    if stale:
        raise UserError(f"Stale or missing: [{', '.join(stale)}]", hint="Run `forge lock` and commit what it writes")
    return 0


def _write(
    session: Session, path: Path, shown: str, request: LockRequest, previous: Lock | None, upgrade: Upgrade
) -> None:
    of = f"for {request.arch}" if request.model is None else f"of the model `{request.name}`"
    click.echo(f"{shown}: resolving {len(request.requested)} requirements {of} …", err=True)
    made = resolve(session, request, previous, upgrade)
    old = locks.parse(_table(path)) if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".toml.new")
    temporary.write_text(locks.render(made))
    temporary.replace(path)
    before, after = _contents(old), _contents(made)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            click.echo(f"  {name}: {before.get(name, 'new')} -> {after.get(name, 'gone')}")
    size = sum(each.digest.size for each in made.materials if isinstance(each.digest, Digest))
    noun = "files" if made.kind == "model" else "packages"
    click.echo(f"{shown}: {len(made.materials)} {noun}, {size / 1e6:.1f} MB", err=True)


def _contents(lock: Lock | None) -> dict[str, str]:
    """Say what a lock holds, line by line, as a person would review it."""
    if lock is None:
        return {}
    if lock.kind != "model":
        return {each.name: each.version for each in lock.materials}
    head = {lock.repository: lock.revision} if lock.repository else {}
    return {**head, **{each.file: each.digest.short for each in lock.materials}}


def resolve(session: Session, request: LockRequest, previous: Lock | None, upgrade: Upgrade) -> Lock:
    """Resolve one request with the workspace's sources."""

    def warn(text: str) -> None:
        click.echo(f"warning: {text}", err=True)

    if request.arch == "all":
        assert request.model is not None
        return lock_model(
            request.model,
            session.places,
            session.store,
            previous=None if upgrade.everything else previous,
            tell=lambda text: click.echo(f"  {text}", err=True),
        )
    if request.kind == "deb":
        debian = DebianRequest(request.requirements, request.exclude, request.arch)
        return lock_debian(debian, session.places, previous=previous, upgrade=upgrade, warn=warn)
    if request.kind == "sdist":
        return lock_sdist(request.requirements[0], request.arch, session.places)
    python = PythonRequest(
        request.requirements,
        PythonTarget(request.arch, request.python),
        exclude=request.exclude,
        sources=dict(request.sources),
    )
    return lock_python(python, session.places, previous=previous, upgrade=upgrade, warn=warn)


def _table(path: Path) -> dict[str, object]:
    import tomllib

    return tomllib.loads(path.read_text())
