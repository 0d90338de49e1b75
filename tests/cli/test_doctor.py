"""`forge doctor`: each look on machines and folders that have the fault."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from pathlib import Path

import pytest

from forge.cli.checkup.finding import Finding, found
from forge.cli.checkup.machine import Machine
from forge.cli.checkup.store import Home
from forge.cli.checkup.workspace import WorkspaceCheck, probe
from forge.cli.session import Session
from forge.core.errors import Fault, HostError, LoadError
from forge.net.connection import Connection
from forge.packages.sources import Place
from tests.e2e.program import REPOSITORY, Forge
from tests.net.test_download import open_site, status

BUILD = '[x]\nrule = "command"\nshell = "true > $OUT"\nouts = ["x"]\n'
LOCKED = '[tools]\nrule = "environment"\nplatforms = ["amd64"]\ndebs = ["busybox-static"]\n'


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc of an ordinary machine."""
    for name, value in {
        "sys/user/max_user_namespaces": "100",
        "sys/kernel/unprivileged_userns_clone": "1",
        "self/status": "Name:\tx\nUmask:\t0022\n",
    }.items():
        (tmp_path / "proc" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc" / name).write_text(value)
    return tmp_path / "proc"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "ws"
    (folder / "targets/a").mkdir(parents=True)
    (folder / "WORKSPACE.toml").write_text('[workspace]\nname = "demo"\n')
    (folder / "targets/a/BUILD.toml").write_text(BUILD)
    return folder


def program(folder: Path, name: str, text: str) -> str:
    (folder / "bin").mkdir(exist_ok=True)
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def statuses(findings: Iterable[Finding]) -> list[str]:
    return [each.status for each in findings]


@pytest.mark.parametrize(("python", "expected"), [((3, 11, 0), "ok"), ((3, 14, 1), "ok"), ((3, 10, 12), "fault")])
def test_python_is_new_enough(python: tuple[int, int, int], expected: str) -> None:
    assert [expected] == statuses(Machine({}, python=python).check_python())


@pytest.mark.parametrize(
    ("system", "machine", "kernel", "expected"),
    [
        ("linux", "x86_64", "6.1.0-18-amd64", "ok"),
        ("linux", "aarch64", "5.15.148-tegra", "ok"),
        ("linux", "x86_64", "4.19.0-26", "warning"),
        ("linux", "riscv64", "6.1", "fault"),
        ("darwin", "arm64", "23.1", "fault"),
    ],
)
def test_actions_run_on_some_machines(system: str, machine: str, kernel: str, expected: str) -> None:
    assert [expected] == statuses(Machine({}, machine=machine, system=system, kernel=kernel).check_machine())


def test_a_refused_sandbox_is_a_fault_in_bubblewrap_s_words(proc: Path, tmp_path: Path) -> None:
    bwrap = program(tmp_path, "bwrap", 'echo "bwrap: No permissions to create new namespace" >&2; exit 1')
    (finding,) = Machine({"FORGE_BWRAP": bwrap}, proc=proc).check_sandbox()

    assert ("fault", True) == (finding.status, "No permissions to create new namespace" in finding.text)
    assert "allow unprivileged user namespaces" in finding.hint


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("user/max_user_namespaces", "0\n"),
        ("kernel/unprivileged_userns_clone", "0\n"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1\n"),
    ],
)
def test_the_setting_of_the_kernel_that_refuses_it_is_named(
    proc: Path, tmp_path: Path, setting: str, value: str
) -> None:
    (proc / "sys" / setting).write_text(value)
    bwrap = program(tmp_path, "bwrap", "exit 1")
    (finding,) = Machine({"FORGE_BWRAP": bwrap}, proc=proc).check_sandbox()

    assert f"sysctl -w {setting.replace('/', '.')}=" in finding.hint


@pytest.mark.parametrize("text", ["echo made; exit 0", "exit 1", "kill -9 $$"], ids=["no sandbox", "silent", "killed"])
def test_what_is_no_bubblewrap_is_a_fault(proc: Path, tmp_path: Path, text: str) -> None:
    bwrap = program(tmp_path, "bwrap", text)

    assert ["fault"] == statuses(Machine({"FORGE_BWRAP": bwrap}, proc=proc).check_sandbox())


def test_no_bubblewrap_at_all_is_a_fault_with_its_remedy(tmp_path: Path) -> None:
    machine = Machine({"FORGE_BWRAP": str(tmp_path / "nowhere")})
    (finding,) = found([("sandbox", machine.check_sandbox)])

    assert ("sandbox", "fault") == (finding.check, finding.status)
    assert finding.hint


@pytest.mark.parametrize(("mask", "expected"), [("0022", "ok"), ("0077", "ok"), ("0777", "fault")])
def test_a_umask_may_not_hide_from_oneself(proc: Path, mask: str, expected: str) -> None:
    (proc / "self/status").write_text(f"Umask:\t{mask}\n")

    assert expected in statuses(Machine({}, proc=proc).check_limits())


def test_a_limit_on_files_is_a_warning(proc: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        (finding,) = Machine({}, proc=proc).check_limits()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert ("warning", "512 open files are few") == (finding.status, finding.text)


@pytest.mark.parametrize(("now", "expected"), [(0.0, "warning"), (1_800_000_000.0, "ok")])
def test_a_clock_that_was_never_set_is_a_warning(now: float, expected: str) -> None:
    assert [expected] == statuses(Machine({}, now=lambda: now).check_clock())


def test_emulation_and_an_engine_are_welcome_and_not_needed(proc: Path, tmp_path: Path) -> None:
    bare = Machine({"PATH": str(tmp_path)}, proc=proc, machine="x86_64")
    without = [*bare.check_emulation(), *bare.check_docker()]
    (proc / "sys/fs/binfmt_misc").mkdir(parents=True)
    (proc / "sys/fs/binfmt_misc/qemu-aarch64").write_text("enabled\ninterpreter qemu\n")
    program(tmp_path, "docker", "echo 26.1")
    full = Machine({"PATH": str(tmp_path / "bin")}, proc=proc, machine="x86_64")
    having = [*full.check_emulation(), *full.check_docker()]

    assert ["ok"] * 4 == statuses([*without, *having])
    assert ["Programs for arm64 run here, emulated", "Engine 26.1 answers"] == [each.text for each in having]


def test_an_engine_that_is_not_open_to_the_user_is_a_warning(tmp_path: Path) -> None:
    program(tmp_path, "docker", "echo 'permission denied while trying to connect' >&2; exit 1")
    (finding,) = Machine({"PATH": str(tmp_path / "bin")}).check_docker()

    assert "warning" == finding.status
    assert "group `docker`" in finding.hint


def test_a_store_is_looked_at_and_not_made(tmp_path: Path) -> None:
    home = Home({"FORGE_HOME": str(tmp_path / "a/b")})

    assert ["ok", "ok"] == statuses([*home.check_store(), *Home(home.environ, lambda path: 10**12).check_disk()])
    assert [] == list(tmp_path.iterdir())


def test_a_store_of_a_newer_forge_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("99\n")
    (finding,) = Home({"FORGE_HOME": str(tmp_path)}).check_store()

    assert ("fault", True) == (finding.status, "has schema 99, this forge knows" in finding.text)


def test_a_store_where_no_folder_can_be_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert ["fault"] == statuses(Home({"FORGE_HOME": str(tmp_path / "file/home")}).check_store())
    assert ["fault"] == statuses(Home({"FORGE_HOME": "/proc/home"}).check_store())


@pytest.mark.parametrize(("free", "expected"), [(10, "fault"), (10**9, "warning"), (10**11, "ok")])
def test_room_is_measured(tmp_path: Path, free: int, expected: str) -> None:
    assert [expected] == statuses(Home({"FORGE_HOME": str(tmp_path)}, lambda path: free).check_disk())


def test_a_broken_file_is_a_fault_at_its_place(workspace: Path) -> None:
    (workspace / "targets/a/BUILD.toml").write_text('[x]\nrule = "comand"\n\n[y]\n')
    check = WorkspaceCheck(Session(workspace, {}))
    findings = list(found(check.checks()))
    broken = next(each for each in findings if each.check == "workspace")

    assert "fault" == broken.status
    assert broken.text.startswith("targets/a/BUILD.toml:2: Unknown rule `comand` of target `//a:x`, and 1 more")
    assert "ok" == next(each for each in findings if each.check == "locks").status


def test_locks_that_are_missing_or_stale_are_warnings(workspace: Path) -> None:
    (workspace / "targets/a/BUILD.toml").write_text(LOCKED)
    missing = list(WorkspaceCheck(Session(workspace, {})).check_locks())
    lock = (REPOSITORY / "toolchains/locks/busybox.amd64.deb.toml").read_text()
    (workspace / "targets/a/locks").mkdir()
    (workspace / "targets/a/locks/tools.amd64.deb.toml").write_text(lock)
    locked = list(WorkspaceCheck(Session(workspace, {})).check_locks())
    (workspace / "targets/a/BUILD.toml").write_text(LOCKED.replace('"busybox-static"', '"busybox-static", "dash"'))
    stale = list(WorkspaceCheck(Session(workspace, {})).check_locks())

    assert [["warning"], ["ok"], ["warning"]] == [statuses(missing), statuses(locked), statuses(stale)]
    assert "1 locks are missing: [tools.amd64.deb]" in missing[0].text
    assert "1 locks are stale: [tools.amd64.deb]" in stale[0].text


def test_something_in_the_way_of_links_is_a_fault(workspace: Path) -> None:
    check = WorkspaceCheck(Session(workspace, {}))
    before = statuses(check.check_outputs())
    (workspace / "forge-out").touch()

    assert (["ok"], ["fault"]) == (before, statuses(check.check_outputs()))
    assert {"WORKSPACE.toml", "targets", "forge-out"} == set(os.listdir(workspace))


def test_a_source_that_is_no_folder_is_a_warning_without_a_network_too(workspace: Path, tmp_path: Path) -> None:
    with (workspace / "WORKSPACE.toml").open("a") as file:
        file.write(f'[sources]\npypi = "{tmp_path}/nowhere"\ndebian = []\n')
    session = Session(workspace, {"PIP_CONFIG_FILE": os.devnull})
    findings = [each for each in WorkspaceCheck(session).check_sources() if each.status == "warning"]

    assert [f"pypi: {tmp_path}/nowhere ([sources] pypi): No such folder"] == [each.text for each in findings]


def test_a_source_is_asked_and_need_not_have_a_front_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    connection = Connection({}, timeout=2)
    with open_site() as site:
        site.files["/there/"] = b"x"
        site.answers["/login/"] = [status(401)]
        site.answers["/busy/"] = [status(503)]
        site.answers["/no-head/"] = [status(405)]
        answers = {
            name: probe(Place(f"{site.address}/{name}", "index", ""), connection, True)
            for name in ("there", "gone", "no-head", "login", "busy")
        }
        gone = Place(site.address, "index", "")

    assert {"there": "", "gone": "", "no-head": ""} == {name: text for name, text in answers.items() if not text}
    assert ("HTTP 401", "HTTP 503") == (answers["login"][:8], answers["busy"][:8])
    assert "Cannot connect" in probe(gone, connection, True)
    assert "" == probe(gone, connection, False)


def test_errors_of_a_look_are_findings() -> None:
    def broken() -> list[Finding]:
        raise LoadError(Fault("Is not TOML", "x:1", "Mend it"), Fault("And so on", "y:2"))

    def denied() -> list[Finding]:
        raise PermissionError(13, "Permission denied", "z")

    assert [
        Finding("a", "fault", "x:1: Is not TOML, and 1 more", "Mend it"),
        Finding("b", "fault", "`z`: Permission denied"),
    ] == list(found([("a", broken), ("b", denied)]))


def test_it_exits_as_a_build_would_on_this_machine(workspace: Path, tmp_path: Path) -> None:
    bwrap = program(tmp_path, "bwrap", "echo 'bwrap: no' >&2; exit 1")
    result = Forge(REPOSITORY, workspace, {"FORGE_HOME": str(tmp_path / "home"), "FORGE_BWRAP": bwrap})(
        "doctor", "--output=json", code=HostError.exit_code
    )
    table = result.table

    assert (1, False) == (table["schema"], table["can_build"])
    assert ["sandbox"] == [each["check"] for each in table["findings"] if each["status"] == "fault"]
    assert result.stderr.startswith("This machine cannot build: 1 fault")
    assert not (tmp_path / "home").exists()
