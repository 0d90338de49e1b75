"""Looks at the machine: Python, kernel, sandbox, and what is welcome but not needed."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from forge import __version__
from forge.cli.checkup.finding import Finding
from forge.core.action import OUT, WORK
from forge.core.errors import HostError
from forge.execution.process import ProcessGroup
from forge.execution.sandbox import Sandbox, find_bwrap, refused

PYTHON = (3, 11)
PIDFD = (5, 3)
"""Version of Linux from which forge can wait for a process without looking again and again."""
BEGINNING = 1_735_689_600
"""2025-01-01: no certificate that is in use now was valid before."""
DESCRIPTORS = 1024
SECONDS = 10
_NOWHERE = "/forge-doctor"
"""A program that is not there: a sandbox that fails because of it alone has come up."""
_SWITCHES = {
    "user/max_user_namespaces": ("0", "sysctl -w user.max_user_namespaces=10000"),
    "kernel/unprivileged_userns_clone": ("0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
}
"""Settings of the kernel by which it refuses namespaces: the value that does, and how to set another."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where to look; a test names another place."""

    environ: Mapping[str, str]
    proc: Path = Path("/proc")
    machine: str = platform.machine()
    system: str = sys.platform
    python: tuple[int, int, int] = sys.version_info[:3]
    kernel: str = platform.release()
    now: Callable[[], float] = time.time

    def checks(self) -> Iterable[tuple[str, Callable[[], Iterable[Finding]]]]:
        """List the looks, in the order in which a build needs what they are about."""
        return [
            ("python", self.check_python),
            ("machine", self.check_machine),
            ("sandbox", self.check_sandbox),
            ("limits", self.check_limits),
            ("clock", self.check_clock),
            ("emulation", self.check_emulation),
            ("docker", self.check_docker),
        ]

    def check_python(self) -> Iterator[Finding]:
        """See that Python is new enough."""
        version = ".".join(map(str, self.python))
        text = f"forge {__version__} on Python {version}, {sys.executable}"
        if self.python < PYTHON:
            hint = "Install Python 3.11 or newer, and name it by FORGE_PYTHON where it is not on the PATH"
            yield Finding("python", "fault", f"{text}, which is too old", hint)
        else:
            yield Finding("python", "ok", text)

    def check_machine(self) -> Iterator[Finding]:
        """See that this is a system and an architecture which actions run on."""
        text = f"{self.system} {self.kernel} on {self.machine}"
        if self.system != "linux" or self.machine not in ("x86_64", "amd64", "aarch64", "arm64"):
            yield Finding("machine", "fault", f"{text}: actions run on Linux, on x86-64 and 64-bit Arm")
        elif _version(self.kernel) < PIDFD:
            yield Finding(
                "machine", "warning", f"{text}: an old kernel", "Linux 5.3 or newer is what forge is tested on"
            )
        else:
            yield Finding("machine", "ok", text)

    def check_sandbox(self) -> Iterator[Finding]:
        """Start a sandbox, with all that one of an action has but its program."""
        bwrap = find_bwrap(self.environ)
        with tempfile.TemporaryDirectory(prefix="forge-doctor-") as name:
            error = start_sandbox(bwrap, Path(name))
        if error is None:
            yield Finding("sandbox", "ok", f"{bwrap} makes one: namespaces of its own, no network")
            return
        switches = list(self._switches())
        hint = "; ".join(f"`{command}`" for command in switches)
        hint = f"The kernel is set so: as root, {hint}" if hint else error.faults[0].hint
        yield Finding("sandbox", "fault", error.faults[0].text, hint)

    def check_limits(self) -> Iterator[Finding]:
        """See that this process may make what a build makes."""
        mask = _umask(self.proc)
        if mask & 0o700:
            hint = "Set it to 022 or 077: `umask 022`"
            yield Finding("limits", "fault", f"umask is {mask:03o}: forge could not read what it has written", hint)
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        size, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if 0 <= files < DESCRIPTORS:
            yield Finding("limits", "warning", f"{files} open files are few", f"`ulimit -n {DESCRIPTORS}` or more")
        if size != resource.RLIM_INFINITY:
            hint = "`ulimit -f unlimited`; a model's weights are one file"
            yield Finding("limits", "warning", f"Files may have {size} bytes at most", hint)
        if not mask & 0o700 and (files < 0 or files >= DESCRIPTORS) and size == resource.RLIM_INFINITY:
            yield Finding("limits", "ok", f"umask {mask:03o}, {files} open files, files of any size")

    def check_clock(self) -> Iterator[Finding]:
        """See that the time can be right: certificates are judged by it."""
        now = self.now()
        shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
        if now < BEGINNING:
            yield Finding("clock", "warning", f"It is set to {shown}: no certificate is valid", "Set the clock")
        else:
            yield Finding("clock", "ok", shown)

    def check_emulation(self) -> Iterator[Finding]:
        """See what images of the other architecture can do here; building them takes no emulation."""
        other, name = ("aarch64", "arm64") if self.machine in ("x86_64", "amd64") else ("x86_64", "amd64")
        handler = self.proc / f"sys/fs/binfmt_misc/qemu-{other}"
        with suppress(OSError):
            if handler.read_text().startswith("enabled"):
                yield Finding("emulation", "ok", f"Programs for {name} run here, emulated")
                return
        yield Finding("emulation", "ok", f"None for {name}: its images are built here all the same, and run elsewhere")

    def check_docker(self) -> Iterator[Finding]:
        """See whether an engine answers: no build needs one."""
        program = shutil.which("docker", path=self.environ.get("PATH"))
        if program is not None:
            with suppress(OSError, subprocess.TimeoutExpired):
                done = subprocess.run(
                    [program, "version", "--format", "{{.Server.Version}}, {{.Server.Os}}/{{.Server.Arch}}"],
                    env=dict(self.environ), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS,
                    check=False,
                )  # fmt: skip
                if done.returncode == 0 and done.stdout.strip():
                    yield Finding("docker", "ok", f"Engine {done.stdout.strip()} answers")
                    return
                if "permission denied" in done.stderr.lower():
                    hint = "Join the group `docker`, and log in again: `sudo usermod --append --groups docker $USER`"
                    yield Finding("docker", "warning", "An engine is there, and its socket is not open to you", hint)
                    return
        yield Finding("docker", "ok", "No engine answers, and no build needs one")

    def _switches(self) -> Iterator[str]:
        for name, (refusing, command) in _SWITCHES.items():
            with suppress(OSError):
                if (self.proc / "sys" / name).read_text().strip() == refusing:
                    yield command


def start_sandbox(bwrap: str, folder: Path) -> HostError | None:
    """Start a sandbox below a folder; what kept it from coming up, or None."""
    root, work, out, tmp = folder / "root", folder / WORK, folder / OUT, folder / "tmp"
    for each in (work / OUT, out, tmp, *(root / name for name in (WORK, "dev", "proc", "tmp"))):
        each.mkdir(parents=True)
    sandbox = Sandbox(root, work, out, tmp, {"LANG": "C.UTF-8"})
    log = folder / "log"
    try:
        code, began = ProcessGroup().run_sandbox(sandbox.command(bwrap, [_NOWHERE]), log=log, timeout=SECONDS)
    except OSError as error:
        return HostError(f"No sandbox: `{bwrap}` cannot be run ({error.strerror})")
    if code is None:
        return HostError(f"No sandbox: `{bwrap}` does not end within {SECONDS} s")
    return None if began and code == 0 else refused(log.read_text(errors="replace"), code)


def _version(release: str) -> tuple[int, ...]:
    digits = release.partition("-")[0].split(".")[:2]
    return tuple(int(each) for each in digits if each.isdecimal())


def _umask(proc: Path) -> int:
    # The only other way to read it is to set it.
    with suppress(OSError):
        for line in (proc / "self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
