"""forgew with a Python that only pretends: what it makes, when, and what it says where it cannot."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("cat", "cmp", "cp", "env", "grep", "mkdir", "mv", "readlink", "rm", "sh", "sleep", "touch")

FAKE = """#!/bin/sh
# A Python that notes what it is asked, and makes an environment of itself.
case "$*" in
    *version_info*) echo "{new} {version} $0" ;;
    *'import ensurepip, venv'*) exit {ensurepip} ;;
    *'-m venv '*)
        for folder; do :; done
        mkdir -p "$folder/bin" "$folder/lib/python3.11/site-packages"
        cp "$0" "$folder/bin/python"
        echo "command = python3 -m venv $folder" >"$folder/pyvenv.cfg"
        printf '#!%s\\n' "$folder/bin/python" >"$folder/bin/tool" ;;
    *'-m pip install'*)
        echo "$*" >>"$NOTES"
        [ -z "$PIP_WAITS" ] || {{ touch "$PIP_WAITS"; exec sleep "$PIP_SLEEPS"; }}
        exit "${{PIP_ENDS:-0}}" ;;
    *forge.cli.main*) echo "forge: $*" ;;
    *) exec "{real}" "$@" ;;
esac
"""


class Checkout:
    """A folder with forgew, a lock, and a PATH with nothing but TOOLS and a Python that pretends."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "check out"
        self.bin = folder / "bin"
        self.notes = folder / "notes"
        for path in (self.root / "requirements", self.bin, folder / "home"):
            path.mkdir(parents=True)
        for name in ("forgew", "requirements/environment.sh"):
            shutil.copy(ROOT / name, self.root / name)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool} here"))
        self.lock("some-package==1.0")
        self.environ = {"PATH": str(self.bin), "HOME": str(folder / "home"), "NOTES": str(self.notes), "PIP_WAITS": ""}

    def lock(self, text: str) -> None:
        """Write forge.lock."""
        (self.root / "requirements/forge.lock").write_text(f"{text} --hash=sha256:{'0' * 64}\n")

    def python(self, version: str = "3.11.2", ensurepip: bool = True, name: str = "python3") -> None:
        """Put a Python on the PATH."""
        new = int(tuple(map(int, version.split("."))) >= (3, 11))
        script = FAKE.format(new=new, version=version, ensurepip=int(not ensurepip), real=sys.executable)
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Start forgew in a process group of its own."""
        return subprocess.Popen(
            [self.root / "forgew", *arguments], env=self.environ | environ, cwd="/", text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
        """Run forgew; its exit code, stdout and stderr."""
        process = self.start(*arguments, **environ)
        out, err = process.communicate(timeout=20)
        return process.returncode, out, err

    @property
    def installs(self) -> int:
        """How often pip was called."""
        return len(self.notes.read_text().splitlines()) if self.notes.exists() else 0

    @property
    def left(self) -> list[str]:
        """What is in .forge, but for the lock files."""
        return sorted(name for name in os.listdir(self.root / ".forge") if not name.endswith(".lock"))


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def await_file(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_first_call_makes_the_environment_and_the_next_does_not(checkout: Checkout) -> None:
    checkout.python()

    first = checkout.run("build", "//...", "a b")
    second = checkout.run("version")

    assert (0, "forge: -I -c from forge.cli.main import main; main() build //... a b\n") == first[:2]
    assert "forgew: Making .forge/venv from requirements/forge.lock, once: 1 packages\n" == first[2]
    assert (0, "forge: -I -c from forge.cli.main import main; main() version\n", "") == second
    assert 1 == checkout.installs
    assert "--require-hashes" in checkout.notes.read_text()


def test_the_environment_finds_the_checkout_and_its_programs_find_the_environment(checkout: Checkout) -> None:
    checkout.python()
    checkout.run("version")
    site = checkout.root / ".forge/venv/lib/python3.11/site-packages"

    assert checkout.root == (site / (site / "forge.pth").read_text().strip()).resolve()
    assert f"#!{checkout.root}/.forge/venv/bin/python\n" == (checkout.root / ".forge/venv/bin/tool").read_text()


def test_a_link_to_forgew_works(checkout: Checkout, tmp_path: Path) -> None:
    checkout.python()
    (tmp_path / "link").symlink_to(checkout.root / "forgew")

    done = subprocess.run(
        [tmp_path / "link"], env=checkout.environ, cwd="/", capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("forge: ")


def test_a_changed_lock_makes_it_anew(checkout: Checkout) -> None:
    checkout.python()
    checkout.run("version")
    checkout.lock("some-package==2.0")

    assert 0 == checkout.run("version")[0]
    assert 2 == checkout.installs
    assert ["venv"] == checkout.left


def test_a_python_that_is_gone_makes_it_anew(checkout: Checkout) -> None:
    checkout.python()
    checkout.run("version")
    (checkout.root / ".forge/venv/bin/python").unlink()

    assert 0 == checkout.run("version")[0]
    assert 2 == checkout.installs


def test_an_unreachable_index_is_an_error_that_names_the_settings_and_leaves_nothing(checkout: Checkout) -> None:
    checkout.python()

    code, out, err = checkout.run("version", PIP_ENDS="1")

    assert (36, "") == (code, out)
    assert "forgew: pip could not install requirements/forge.lock, see above\n  hint: " in err
    assert all(name in err for name in ("PIP_INDEX_URL", "PIP_FIND_LINKS", "HTTPS_PROXY", "PIP_CERT"))
    assert [] == checkout.left


def test_an_environment_that_cannot_be_made_anew_stays_as_it_was(checkout: Checkout) -> None:
    checkout.python()
    checkout.run("version")
    old = checkout.root / "requirements/forge.lock"
    before = old.read_text()
    checkout.lock("some-package==2.0")

    failed = checkout.run("version", PIP_ENDS="1")
    old.write_text(before)
    after = checkout.run("version")

    assert (36, 0) == (failed[0], after[0])
    assert 2 == checkout.installs


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_set_up_leaves_nothing(checkout: Checkout, tmp_path: Path, name: str) -> None:
    checkout.python()
    process = checkout.start("version", PIP_WAITS=str(tmp_path / "waits"), PIP_SLEEPS="20")
    await_file(tmp_path / "waits")

    os.killpg(process.pid, signal.Signals[name])
    process.communicate(timeout=10)

    assert 8 == process.returncode
    assert [] == checkout.left
    assert 0 == checkout.run("version")[0]


def test_a_killed_set_up_is_done_anew(checkout: Checkout, tmp_path: Path) -> None:
    checkout.python()
    process = checkout.start("version", PIP_WAITS=str(tmp_path / "waits"), PIP_SLEEPS="20")
    await_file(tmp_path / "waits")

    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)

    assert ["venv.new"] == checkout.left
    assert 0 == checkout.run("version")[0]
    assert ["venv"] == checkout.left


def test_callers_at_the_same_time_share_one_set_up(checkout: Checkout, tmp_path: Path) -> None:
    checkout.python()
    first = checkout.start("version", PIP_WAITS=str(tmp_path / "waits"), PIP_SLEEPS="0.3")
    await_file(tmp_path / "waits")
    second = checkout.run("version")
    first.communicate(timeout=10)

    assert (0, 0) == (first.returncode, second[0])
    assert 1 == checkout.installs
    assert "forgew: Waiting for another call that is making the same environment\n" == second[2]


@pytest.mark.parametrize(
    ("arrange", "text", "hint"),
    [
        pytest.param(lambda it: None, "No Python 3.11 or newer", "apt install python3 python3-venv", id="no Python"),
        pytest.param(lambda it: it.python("3.9.2"), "found 3.9.2 at ", "FORGE_PYTHON", id="an old Python"),
        pytest.param(
            lambda it: it.python(ensurepip=False), "`venv` or `ensurepip`", "apt install python3-venv", id="no venv"
        ),
    ],
)
def test_a_machine_that_is_not_fit_is_told_what_to_do(
    checkout: Checkout, arrange: Callable[[Checkout], None], text: str, hint: str
) -> None:
    arrange(checkout)

    code, out, err = checkout.run("version")

    assert (36, "") == (code, out)
    assert text in err
    assert f"hint: {'' if hint == 'FORGE_PYTHON' else 'On D'}" in err
    assert hint in err


def test_a_newer_python_beside_an_old_one_is_taken(checkout: Checkout) -> None:
    checkout.python("3.9.2")
    checkout.python("3.12.0", name="python3.12")

    assert 0 == checkout.run("version")[0]


@pytest.mark.parametrize("script", ["forgew", "check", "requirements/environment.sh", "requirements/update", ".ci/run"])
def test_scripts_are_sound(script: str) -> None:
    shell = "bash" if script == ".ci/run" else "sh"
    subprocess.run([shell, "-n", ROOT / script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--shell", shell, "--exclude", "SC1091", ROOT / script], check=True)


def test_a_lock_that_names_forge_takes_it_from_the_wheels_beside_the_lock(checkout: Checkout) -> None:
    checkout.python()
    checkout.lock("forge-build==0.1.0")
    checkout.run("version")

    assert not (checkout.root / ".forge/venv/lib/python3.11/site-packages/forge.pth").exists()
    assert f"--find-links {checkout.root}/requirements " in checkout.notes.read_text()


def test_a_shell_that_completes_a_word_makes_no_environment(checkout: Checkout) -> None:
    checkout.python()

    assert (0, "", "") == checkout.run(_FORGE_COMPLETE="bash_complete")
    assert not (checkout.root / ".forge").exists()
