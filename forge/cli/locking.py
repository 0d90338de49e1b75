"""Bringing lock files up to date with what targets ask for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click

from forge.cli.dependency import fits, lock_beside
from forge.cli.exporting import replace_file
from forge.cli.lock_diff import differences
from forge.cli.registries import registries
from forge.cli.session import Session
from forge.cli.tools import Fetch
from forge.core import lock_text as locks
from forge.core.digest import Digest
from forge.core.errors import Fault, MaterialError, UserError
from forge.core.label import TargetPattern
from forge.core.lock import Lock, LockRequest, MissingMaterial
from forge.core.model_source import ImageSource, ModelRequest
from forge.core.target import Target
from forge.oci.lock_image import lock_image
from forge.oci.lock_model import lock_image_model
from forge.oci.pull import Pull
from forge.packages.lock_debian import DebianRequest, lock_debian
from forge.packages.lock_model import lock_model
from forge.packages.lock_python import PythonRequest, lock_python
from forge.packages.lock_sdist import lock_sdist
from forge.packages.release_debian import Trust
from forge.packages.target_python import PythonTarget
from forge.packages.upgrade import NOTHING, Upgrade


@dataclass(frozen=True, slots=True)
class Options:
    """How to bring locks up to date."""

    upgrade: Upgrade = NOTHING
    trust: Trust = field(default_factory=Trust)
    """What Debian archives must be."""
    dry_run: bool = False
    """Show what would change and write nothing."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A lock that a target asks for."""

    path: Path
    shown: str
    """Its path as messages show it."""
    request: LockRequest
    previous: Lock | None
    """What the file holds now."""
    target: Target
    """Whose lock it is."""
    fits: Callable[[], bool]
    """Whether that goes into the environment that it is for, as that is locked when this is called."""

    @property
    def is_fresh(self) -> bool:
        """Say whether the file answers the request, be it without what its sources did not give."""
        return self.request.is_answered_by(self.previous) and self.fits()

    @property
    def missing(self) -> tuple[MissingMaterial, ...]:
        """What the file lacks."""
        return self.previous.missing if self.previous is not None else ()


def find_wanted(session: Session, patterns: Sequence[str]) -> tuple[Wanted, ...]:
    """Find the locks of `patterns`, or of everything that the workspace declares, sorted by path.

    Those of environments come first: what is added to one is locked beside what it has by then.
    """
    everything = (TargetPattern("recursive", ""), TargetPattern("package", "toolchains"))
    graph = session.loader().load(session.patterns(patterns) if patterns else everything, manual=True)
    found: dict[Path, Wanted] = {}
    for label in graph.requested:
        target = graph.targets[label]
        for request in target.lock_requests:
            path = Path(target.folder) / request.file
            if not patterns and not path.is_relative_to(session.root):
                continue  # forge's own: nobody locks them anew but who names them
            shown, previous = os.path.relpath(path, session.cwd), target.locks.get(request.name)
            found[path] = Wanted(path, shown, request, previous, target, partial(fits, session, request, previous))
    return tuple(sorted(found.values(), key=lambda each: (each.request.within is not None, each.path)))


def check(wanted: Iterable[Wanted]) -> None:
    """Look at the files alone; UserError when one is missing or stale. What fresh ones lack is told."""
    stale = []
    for each in wanted:
        if not each.is_fresh:
            stale.append(each.shown)
            continue
        for absent in each.missing:
            click.echo(f"warning: {each.shown} lacks {absent}", err=True)
    if stale:
        raise UserError(f"Stale or missing: [{', '.join(stale)}]", hint="Run `forge lock` and commit what it writes")


def update(session: Session, wanted: Sequence[Wanted], options: Options) -> None:
    """Resolve what is stale, incomplete or to be upgraded; one that fails does not keep the others from it."""
    _refuse_unknown(wanted, options.upgrade)
    faults: list[Fault] = []
    for each in wanted:
        if each.is_fresh and not each.missing and not options.upgrade.concerns(each.previous):
            click.echo(f"{each.shown}: up to date", err=True)
            continue
        try:
            _update(session, each, options)
        except MaterialError as error:
            faults += [Fault(fault.text, fault.place or each.shown, fault.hint) for fault in error.faults]
    if faults:
        raise MaterialError(faults[0], *faults[1:])


def resolve(session: Session, request: LockRequest, previous: Lock | None, upgrade: Upgrade, trust: Trust) -> Lock:
    """Resolve one request with the workspace's sources."""

    def warn(text: str) -> None:
        click.echo(f"warning: {text}", err=True)

    if request.arch == "all":
        assert request.model is not None
        kept = None if upgrade.everything else previous
        if isinstance(request.model.source, ImageSource):
            return _lock_image_model(session, request.model, request.model.source, kept)
        return lock_model(
            request.model,
            session.places,
            session.store,
            previous=kept,
            tell=lambda text: click.echo(f"  {text}", err=True),
        )
    if request.image is not None:
        return lock_image(request, registries(session.places, request.image.registry), warn=warn)
    if request.kind == "deb":
        debian = DebianRequest(request.requirements, request.exclude, request.arch, trust=trust)
        return lock_debian(debian, session.places, previous=previous, upgrade=upgrade, warn=warn)
    if request.kind == "sdist":
        return lock_sdist(request.requirements[0], request.arch, session.places)
    python = PythonRequest(
        request.requirements,
        PythonTarget(request.arch, request.python, int(request.glibc.rpartition(".")[2])),
        exclude=request.exclude,
        sources=dict(request.sources),
    )
    return lock_python(python, session.places, previous=previous, upgrade=upgrade, warn=warn)


def _lock_image_model(session: Session, request: ModelRequest, source: ImageSource, previous: Lock | None) -> Lock:
    return lock_image_model(
        request,
        registries(session.places, source.name.registry),
        session.store,
        Pull(Fetch(session.store, lambda: session.places, offline=False).all),
        previous=previous,
        tell=lambda text: click.echo(f"  {text}", err=True),
    )


def _refuse_unknown(wanted: Iterable[Wanted], upgrade: Upgrade) -> None:
    """Refuse a package's name that no lock has: nothing would happen, as if it were up to date."""
    held = [each.previous for each in wanted]
    for name in sorted(upgrade.packages):
        if not any(Upgrade(packages=frozenset((name,))).concerns(each) for each in held):
            raise UserError(f"No lock has a package `{name}`", hint="`--upgrade-package` takes what a lock file names")


def _update(session: Session, wanted: Wanted, options: Options) -> None:
    request, upgrade = wanted.request, options.upgrade
    of = f"for {request.arch}" if request.model is None else f"of the model `{request.name}`"
    what = request.image or f"{len(request.requested)} requirements"
    click.echo(f"{wanted.shown}: resolving {what} {of} …", err=True)
    if request.within is not None:
        made = lock_beside(session, request, wanted.target, wanted.previous, upgrade)
    else:
        made = resolve(session, request, wanted.previous, upgrade, options.trust)
    for line in differences(wanted.previous, made):
        click.echo(f"  {line}")
    pins = [each.digest for each in made.materials]
    pins += [blob.digest for blob in made.image.blobs()] if made.image is not None else []
    size = sum(each.size for each in pins if isinstance(each, Digest))
    noun = {"model": "files", "image": "blobs"}.get(made.kind, "packages")
    lacking = f", {len(made.missing)} missing" if made.missing else ""
    text = locks.render(made)
    if wanted.path.is_file() and wanted.path.read_text(encoding="utf-8") == text:
        ending = ": nothing changed"
    else:
        ending = ": not written" if options.dry_run else ""
        if not options.dry_run:
            wanted.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(wanted.path, text)
    click.echo(f"{wanted.shown}: {len(pins)} {noun}, {size / 1e6:.1f} MB{lacking}{ending}", err=True)
