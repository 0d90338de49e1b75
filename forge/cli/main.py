"""Where the command begins: the no-op build first, everything else after it."""

from __future__ import annotations

import os
import sys

from forge.execution import snapshot


def main() -> None:
    """Run the command line and end the process with its exit code."""
    argv = sys.argv[1:]
    said = nothing_to_do(argv)
    if said is not None:
        sys.stdout.write(said["stdout"])
        sys.stderr.write(said["stderr"])
        sys.stdout.flush()
        sys.exit(0)
    from forge.cli.app import run

    sys.exit(run(argv))


def nothing_to_do(argv: list[str]) -> dict[str, str] | None:
    """Answer a build whose every input is as it was; None when it has to be looked at properly."""
    if not argv or argv[0] not in ("build", "test") or os.environ.get("FORGE_NO_SNAPSHOT"):
        return None
    cwd = os.getcwd()
    root = workspace_root(cwd)
    if root is None:
        return None
    path = snapshot.snapshot_path(snapshot.state_folder(home(), root), argv)
    return snapshot.unchanged(path, snapshot.identity(argv, root, cwd, dict(os.environ)))


def workspace_root(folder: str) -> str | None:
    """Walk up to the folder with a WORKSPACE.toml."""
    while True:
        if os.path.exists(f"{folder}/WORKSPACE.toml"):
            return folder
        if folder in ("/", ""):
            return None
        folder = os.path.dirname(folder)


def home() -> str:
    """Name the folder that forge keeps things in, as `execution.home` does, which a test keeps true."""
    chosen = os.environ.get("FORGE_HOME")
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.environ.get("HOME", "/"), ".cache")
    return os.path.join(cache, "forge")
