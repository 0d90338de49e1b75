"""Builds by a Docker engine, and shells in it: the same results, the same exit codes, and nothing left behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import need
from tests.e2e.program import Forge
from tests.scenarios.transcript import WORKSPACE

pytestmark = [pytest.mark.e2e, pytest.mark.docker]

PACKAGE = """\
[tree]
rule = "command"
srcs = ["text"]
shell = '''
mkdir -p $OUT/sub && cp $SRCS $OUT/sub && ln -s sub $OUT/link
env | sort > $OUT/env && stat -c %a:%u:%Y $SRCS > $OUT/stat'''
outs = ["tree/"]
[failing]
rule = "command"
shell = "echo this is why; exit 7"
outs = ["x"]
[slow]
rule = "command"
shell = "sleep 300; true > $OUT"
outs = ["x"]
"""
SHELL = ["shell", "//toolchains:busybox", "--docker", "--noworkspace", "--progress=quiet"]


@pytest.fixture(scope="module")
def forge(code: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    need("Docker's command", shutil.which("docker") is not None)
    need("A Docker engine", subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0)
    base = tmp_path_factory.mktemp("containers")
    workspace = base / "workspace"
    (workspace / "targets/a").mkdir(parents=True)
    (workspace / "WORKSPACE.toml").write_text(WORKSPACE)
    (workspace / "targets/a/BUILD.toml").write_text(PACKAGE)
    (workspace / "targets/a/text").write_text("text\n")
    shutil.copytree(home / "cas", base / "home/cas")
    yield Forge(code, workspace, {"FORGE_HOME": str(base / "home")})
    shutil.rmtree(base, ignore_errors=True)


def left(forge: Forge) -> list[str]:
    """List the containers that are there because of a store."""
    words = ["docker", "ps", "--all", "--filter", "label=forge.session", "--format", "{{.ID}} {{.Labels}}"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if forge.environ["FORGE_HOME"] in line]


def test_an_engine_builds_what_the_sandbox_builds_under_the_same_key(forge: Forge, code: Path, tmp_path: Path) -> None:
    by_docker = forge("build", "//a:tree", "--executor=docker")
    again = forge("build", "//a:tree")
    shutil.copytree(Path(forge.environ["FORGE_HOME"]) / "cas", tmp_path / "cas")
    by_sandbox = Forge(code, forge.cwd, {"FORGE_HOME": str(tmp_path)})("build", "//a:tree")

    assert "Run //a:tree" in by_sandbox.stderr or "actions ran" in by_sandbox.stderr
    assert by_sandbox.digest("//a:tree") == by_docker.digest("//a:tree") == again.digest("//a:tree")
    assert "0 actions ran" in again.stderr or "Nothing to do" in again.stderr
    assert [] == left(forge)


def test_a_failure_is_told_with_its_log(forge: Forge) -> None:
    result = forge("build", "//a:failing", code=1, FORGE_EXECUTOR="docker")

    assert "this is why" in result.stderr
    assert "exit code 7" in result.stderr
    assert [] == left(forge)


def test_ctrl_c_leaves_no_container(forge: Forge) -> None:
    process = forge.start("build", "//a:slow", "--executor=docker")
    end = time.monotonic() + 60
    while len(left(forge)) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert 8 == process.returncode
    assert [] == left(forge)


def test_the_next_build_removes_what_a_killed_one_left(forge: Forge) -> None:
    process = forge.start("build", "//a:slow", "--executor=docker")
    end = time.monotonic() + 60
    while len(left(forge)) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    process.kill()
    process.communicate(timeout=60)
    assert left(forge)
    forge("build", "//a:failing", "--executor=docker", code=1)

    assert [] == left(forge)


def test_no_engine_is_this_machine_s_fault(forge: Forge) -> None:
    result = forge("build", "//a:tree", "--executor=docker", code=36, DOCKER_HOST="unix:///nowhere/docker.sock")

    assert "No Docker engine" in result.stderr
    assert "hint: " in result.stderr


def test_a_shell_passes_its_exit_code_on_and_sees_what_it_is_given(forge: Forge) -> None:
    script = 'test "$NAME" = "a b" && test "$(id -u)" = 1234 && ! touch /x && df -k /dev/shm | grep -q 16384 && exit 7'
    around = ["--env=NAME=a b", "--user=1234", "--shm-size=16m", "--ulimit=nofile=99", "--network=none"]
    result = forge(*SHELL, *around, "--", "sh", "-c", script, code=7)

    assert "Read-only file system" in result.stderr


def test_a_terminated_shell_leaves_no_container(forge: Forge) -> None:
    process = forge.start(*SHELL, "--env=MARK=1", "--", "sh", "-c", "echo up; exec sleep 300")
    assert process.stdout is not None
    assert "up\n" == process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    assert 143 == process.returncode


def test_a_dry_run_is_the_line_that_would_be_run(forge: Forge) -> None:
    result = forge(*SHELL, "--gpus=all", "--dry-run", "--", "echo", "a b")

    assert result.stdout.startswith("docker run --rm --init --interactive --read-only --cap-drop=ALL ")
    assert " --gpus=all " in result.stdout
    assert result.stdout.rstrip().endswith("'a b'")
