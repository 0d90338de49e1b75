"""A lock in a form that other tools read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from forge.cli.session import Session
from forge.core.errors import UsageError, UserError
from forge.core.provider import EnvironmentInfo
from forge.execution.home import host_errors
from forge.packages.export_pylock import render_pylock
from forge.packages.target_python import PythonTarget

FOLDER = "vendor"
"""Where the wheels are expected, beside the file, unless told otherwise."""


def export_pylock(session: Session, text: str, to: str | None, vendored: str | None) -> int:
    """Write pylock.toml for the one environment that `text` names; UserError when it is none, or has no wheels."""
    from packaging.pylock import is_valid_pylock_path

    target = Path(to).absolute() if to else session.cwd / "pylock.toml"
    if not is_valid_pylock_path(target):
        raise UsageError(f"`{to}` cannot be the name of the file", hint="Call it `pylock.toml` or `pylock.NAME.toml`")
    graph = session.load(session.patterns([text]))
    if len(graph.requested) != 1:
        names = ", ".join(map(str, graph.requested))
        raise UserError(f"`{text}` means {len(graph.requested)} targets, one environment is needed", hint=f"[{names}]")
    label = graph.requested[0]
    declared = graph.targets[label]
    requests = [each for each in declared.lock_requests if each.kind == "python"]
    if declared.rule != "environment" or not requests:
        hint = "Such as `//toolchains:cpu_llm_trf`: `forge info platforms` lists the platforms"
        raise UserError(f"`{label}` asks for no Python packages", place=declared.place, hint=hint)
    actions = session.analyze(graph)
    if label in actions.skipped:
        raise UserError(actions.skipped[label])
    info = actions.providers[label]
    assert isinstance(info, EnvironmentInfo) and declared.platform is not None
    written = render_pylock(
        PythonTarget(declared.platform.arch, requests[0].python),
        [each for lock in info.locks if lock.kind == "python" for each in lock.materials],
        [wheel.sdist for wheel in info.built if wheel.sdist is not None],
        folder=Path(os.path.relpath(vendored or target.parent / FOLDER, target.parent)).as_posix(),
    )
    if not to:
        click.echo(written, nl=False)
        return 0
    replace_file(target, written)
    click.echo(f"{to}: the wheels of {label}, expected in `{vendored or FOLDER}`", err=True)
    return 0


def replace_file(target: Path, text: str) -> None:
    """Write a file aside and rename it: it is there whole, or as it was."""
    with host_errors(target):
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
            os.chmod(name, 0o644)
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
