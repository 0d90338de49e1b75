"""The real sandbox. Each thing that it keeps out is paired with the same thing let in."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, TreeContent
from forge.core.tree import File, Tree
from forge.execution.sandbox import Sandbox
from tests.execution.rootfs import PYTHON, Shell, sandbox_command


def file_of(shell: Shell, text: bytes) -> FileContent:
    return FileContent(shell.store.put(text))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file of the host, readable by everybody."""
    path = tmp_path / "canary.txt"
    path.write_text("alive")
    return path


def test_an_input_is_there_only_if_it_is_declared(shell: Shell) -> None:
    declared = {"pkg/secret.txt": file_of(shell, b"declared")}

    assert "declared" == shell.say("open('pkg/secret.txt').read()", declared)
    with pytest.raises(ActionFailed) as error:
        shell.say("open('pkg/secret.txt').read()")
    assert "FileNotFoundError" in error.value.log


def test_a_file_of_the_host_is_not_there_unless_it_is_declared(shell: Shell, canary: Path) -> None:
    assert "alive" == canary.read_text()
    assert "alive" == shell.say("open('canary.txt').read()", {"canary.txt": FileContent(shell.store.put_file(canary))})
    with pytest.raises(ActionFailed) as error:
        shell.say(f"open({str(canary)!r}).read()")
    assert "FileNotFoundError" in error.value.log


def test_the_root_holds_what_the_environment_holds(shell: Shell) -> None:
    """No /etc/passwd, no home folder, nothing but the tree and the four mount points."""
    tree = Tree.decode(shell.store.read(shell.root.tree))
    tops = {path.split("/")[0] for path in tree.entries}

    assert sorted(tops) == shell.say("'\\n'.join(sorted(posix.listdir('/')))").split("\n")
    assert os.path.exists("/etc/passwd")
    with pytest.raises(ActionFailed):
        shell.say("open('/etc/passwd').read()")


def test_the_environment_is_what_was_declared(shell: Shell) -> None:
    """PWD is bubblewrap's and the same everywhere."""
    declared = {"A": "1", "HOME": "/tmp"}

    assert str(sorted([*declared.items(), ("PWD", "/build")])) == shell.say(
        "sorted((k.decode(), v.decode()) for k, v in posix.environ.items())", env=declared
    )


def test_home_is_unset_unless_it_is_declared(shell: Shell) -> None:
    expression = "posix.environ.get(b'HOME')"

    assert "HOME" in os.environ
    assert "None" == shell.say(expression)
    assert "b'/tmp'" == shell.say(expression, env={"HOME": "/tmp"})


def test_nothing_of_the_host_shows_in_the_first_process(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGE_TEST_TOKEN", "secret")

    assert "b''" == shell.say("open('/proc/1/environ', 'rb').read()")


def test_user_host_name_and_folder_are_the_same_everywhere(shell: Shell) -> None:
    assert "(65532, 65532, 'forge', '/build')" == shell.say(
        "(posix.getuid(), posix.getgid(), posix.uname().nodename, posix.getcwd())"
    )


def test_there_are_no_privileges_and_none_to_be_had(shell: Shell) -> None:
    status = shell.say("open('/proc/self/status').read()")
    fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)

    assert ("0" * 16,) * 3 == (fields["CapEff"], fields["CapPrm"], fields["CapBnd"])
    assert "1" == fields["NoNewPrivs"]


def test_no_handle_of_the_host_leaks_in(shell: Shell) -> None:
    """0, 1, 2, and the one with which the folder is listed."""
    assert "['0', '1', '2', '3']" == shell.say("handles = sorted(posix.listdir('/proc/self/fd'))\nhandles")


WRITES = {
    "input": "pkg/input.txt",
    "beside the inputs": "pkg/new.txt",
    "tree": "tree/file",
    "root": PYTHON,
    "beside the root": "/new.txt",
}


@pytest.mark.parametrize("place", WRITES.values(), ids=WRITES)
def test_inputs_and_root_cannot_be_written(shell: Shell, place: str) -> None:
    digest = shell.store.put(b"canary")
    tree = Tree.of({"file": File(digest)})
    shell.store.put(tree.encoded)
    inputs: dict[str, Content] = {"pkg/input.txt": FileContent(digest), "tree": TreeContent(tree.digest, tree.root)}

    with pytest.raises(ActionFailed) as error:
        shell.run(f"posix.open({place!r}, posix.O_WRONLY | posix.O_CREAT)", inputs)
    assert "Read-only file system" in error.value.log or "Permission denied" in error.value.log
    assert b"canary" == shell.store.path(digest).read_bytes()
    assert shell.say("[posix.close(posix.open(p, posix.O_WRONLY | posix.O_CREAT)) for p in ('out/x', '/tmp/x')]")


def test_an_input_cannot_be_made_writable_or_replaced(shell: Shell) -> None:
    digest = shell.store.put(b"canary2")
    for attempt in ("posix.chmod('a', 0o777)", "posix.unlink('a')", "posix.link('a', 'out/text')"):
        with pytest.raises(ActionFailed):
            shell.run(attempt, {"a": FileContent(digest)})
    assert b"canary2" == shell.store.path(digest).read_bytes()


@pytest.fixture
def listener() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


@pytest.fixture
def abstract() -> Iterator[str]:
    name = f"\0forge-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        yield name


def connect(family: str, address: object) -> str:
    return f"import _socket\n_socket.socket(_socket.{family}).connect({address!r})"


def run_with_network(shell: Shell, script: str, folder: Path) -> int:
    return subprocess.run(sandbox_command(shell, script, folder, network=True)).returncode


def test_no_action_reaches_a_tcp_port_of_the_host(shell: Shell, listener: tuple[str, int], tmp_path: Path) -> None:
    assert 0 == run_with_network(shell, connect("AF_INET", listener), tmp_path)
    with pytest.raises(ActionFailed) as error:
        shell.run(connect("AF_INET", listener))
    assert "ConnectionRefusedError" in error.value.log or "unreachable" in error.value.log


def test_no_action_sees_the_sensors_that_a_service_sees(shell: Shell, tmp_path: Path) -> None:
    assert "False" == shell.say("__import__('os').path.exists('/sys/devices/system/cpu')")

    root = tmp_path / "root"
    (root / "sys").mkdir(parents=True)
    served = Sandbox(root, tmp_path, tmp_path, tmp_path, {}, network=True).command("bwrap", ["true"])
    action = Sandbox(root, tmp_path, tmp_path, tmp_path, {}).command("bwrap", ["true"])

    assert "--ro-bind /sys /sys" in " ".join(served)
    assert "/sys" not in action


def test_no_action_reaches_an_abstract_socket_of_the_host(shell: Shell, abstract: str, tmp_path: Path) -> None:
    assert 0 == run_with_network(shell, connect("AF_UNIX", abstract), tmp_path)
    with pytest.raises(ActionFailed) as error:
        shell.run(connect("AF_UNIX", abstract))
    assert "ConnectionRefusedError" in error.value.log
