"""What a target's own packages are locked beside: its platform's environment, as it is locked by now."""

from __future__ import annotations

import click

from forge.cli.session import Session
from forge.core.errors import MaterialError, UserError
from forge.core.label import Label, TargetPattern
from forge.core.lock import Lock, LockRequest
from forge.core.provider import EnvironmentInfo
from forge.core.target import Target
from forge.packages.lock_deps import Surroundings, lock_deps
from forge.packages.lock_python import PythonRequest
from forge.packages.target_python import PythonTarget
from forge.packages.upgrade import Upgrade


def fits(session: Session, request: LockRequest, lock: Lock | None) -> bool:
    """Say whether a lock's packages still fit into the environment that they were locked for; any other lock does."""
    if request.within is None or lock is None:
        return True
    try:
        _, info = _environment(session, request.within)
    except UserError:  # which is then what has to be locked first
        return False
    return not lock.misfits(info.python_packages)


def lock_beside(
    session: Session,
    request: LockRequest,
    target: Target,
    previous: Lock | None,
    upgrade: Upgrade,
) -> Lock:
    """Resolve a target's own packages; MaterialError where its platform is not locked itself."""
    assert request.within is not None and request.arch != "all"

    def warn(text: str) -> None:
        click.echo(f"warning: {text}", err=True)

    try:
        environment, info = _environment(session, request.within)
    except UserError as error:
        raise MaterialError(*error.faults) from error
    around = Surroundings(
        info.python_packages,
        str(request.within),
        environment.place,
        str(target.generator or target.label),
        target.place,
    )
    (python,) = {each.python for each in session.toolchains.toolchains.values() if each.environment == request.within}
    asked = PythonRequest(request.requirements, PythonTarget(request.arch, python))
    return lock_deps(asked, around, session.places, previous=previous, upgrade=upgrade, warn=warn)


def _environment(session: Session, label: Label) -> tuple[Target, EnvironmentInfo]:
    # Loaded anew: its lock may have been written a moment ago.
    graph = session.load([TargetPattern("target", label.package, label.name)])
    info = session.analyze(graph).providers[label]
    assert isinstance(info, EnvironmentInfo)
    return graph.targets[label], info
