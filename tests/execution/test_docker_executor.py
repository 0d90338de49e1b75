"""Actions in containers: what an engine is asked for, and, with a real one, that the sandbox gives the same."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forge.core.action import Action
from forge.core.digest import Digest
from forge.core.errors import ActionFailed, HostError, Interrupted
from forge.core.tool import Content, FileContent, TreeContent
from forge.core.tree import File, Folder, Tree
from forge.execution.container import LABEL, Container, is_left, labels_of
from forge.execution.docker_engine import DockerEngine
from forge.execution.docker_executor import CONTAINER, DockerExecutor, prune, sweep
from forge.execution.executor import Executor, LocalExecutor, Outcome
from forge.execution.sandbox import find_bwrap
from forge.execution.store import STAMP, LocalStore
from tests.execution.fake_engine import FakeEngine
from tests.execution.rootfs import Shell, python_root


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "home")


@pytest.fixture
def root(store: LocalStore) -> TreeContent:
    return kept(store, {"bin/run": File(store.put(b"#!"), True), "build": Folder(), "tmp": Folder()})


def kept(store: LocalStore, entries: dict[str, File | Folder]) -> TreeContent:
    tree = Tree.of(entries)
    store.put(tree.encoded)
    return TreeContent(tree.digest, tree.root)


def over(store: LocalStore, engine: FakeEngine, *, debug: bool = False) -> DockerExecutor:
    local = LocalExecutor(store, {}, lambda: pytest.fail("no sandbox is wanted"), debug)
    return DockerExecutor(local, lambda: engine, lambda layout: f"loaded:{layout.root.hash[:4]}")


def run(executor: Executor, action: Action, root: TreeContent | None, **inputs: FileContent | TreeContent) -> Outcome:
    return executor.run(action, inputs, root, lambda done, total: None)


ACTION = Action(("/bin/run", "a b"), (("NAME", "value"),), outputs=("text",), timeout=7)


def test_a_command_sees_its_root_its_inputs_and_its_variables(store: LocalStore, root: TreeContent) -> None:
    engine = FakeEngine(files={"text": b"done"}, said=b"it said\n")
    outcome = run(over(store, engine), ACTION, root, given=FileContent(store.put(b"in"), True))

    owner, box = engine.made
    assert outcome == Outcome({"text": FileContent(Digest.of(b"done"))}, "it said\n")
    assert ("/bin/run", "a b") == box.argv
    assert {"NAME": "value", "PWD": "/build"} == box.env
    assert ("65532:65532", "/build", True) == (box.user, box.workdir, box.read_only)
    assert (("c0/build", "/build", False), ("c0/build/out", "/build/out", True), ("c0/tmp", "/tmp", True)) == box.mounts
    assert owner.image == box.image == f"forge-root:{root.root.hash}"
    given = {each.name: (each.mode, each.uid, each.gid, each.mtime) for each in engine.given}
    assert (0o555, 65532, 65532, STAMP) == given["build/given"]
    assert (0o755, 65532, 65532, STAMP) == given["build/out"]


def test_a_root_goes_to_the_engine_once(store: LocalStore, root: TreeContent) -> None:
    engine = FakeEngine(files={"text": b""})
    run(over(store, engine), ACTION, root)
    (name,) = engine.known
    there = engine.known[name]
    run(over(store, engine), ACTION, root)

    assert there is engine.known[name]
    assert {"bin/run": 0o555, "tmp": 0o1777, "build/out": 0o755}.items() <= {e.name: e.mode for e in there}.items()


@pytest.mark.parametrize(
    ("code", "how"), [(3, "exit code 3"), (137, "killed by SIGKILL"), (None, "no end after 7 s")], ids=str
)
def test_a_failure_leaves_no_container_and_tells_what_was_said(
    store: LocalStore, root: TreeContent, code: int | None, how: str
) -> None:
    engine = FakeEngine(code=code, said=b"x" * 300_000 + b"\nlast", files={"text": b"half"})
    with pytest.raises(ActionFailed, match=how) as error:
        run(over(store, engine), ACTION, root)

    assert {} == engine.alive
    assert error.value.log.endswith("last")
    assert ({"text": b"half"} if code else {}) == error.value.left


def test_an_output_that_was_not_made_fails(store: LocalStore, root: TreeContent) -> None:
    engine = FakeEngine()
    with pytest.raises(ActionFailed, match="did not make its output `text`"):
        run(over(store, engine), ACTION, root)
    assert {} == engine.alive


def test_debugging_leaves_the_container_and_tells_the_command(store: LocalStore, root: TreeContent) -> None:
    engine = FakeEngine(code=1)
    with pytest.raises(ActionFailed) as error:
        run(over(store, engine, debug=True), ACTION, root)

    assert ["c1"] == list(engine.alive)
    assert "docker start --attach c1" in str(error.value)
    assert 0 == sweep(engine, LocalStore(store.home))


def test_stopping_kills_what_runs_and_starts_no_more(store: LocalStore, root: TreeContent) -> None:
    engine = FakeEngine()
    executor = over(store, engine)
    engine.running = lambda name: executor.stop()
    for _ in range(2):
        with pytest.raises(Interrupted):
            run(executor, ACTION, root)

    assert {} == engine.alive
    assert {"c0", "c1"} == set(engine.killed)


def test_no_engine_is_this_machine_s_fault() -> None:
    with pytest.raises(HostError, match="No Docker engine") as error:
        DockerEngine({"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    assert 36 == error.value.exit_code
    assert "DOCKER_HOST" in str(error.value)


def test_what_a_dead_build_left_is_removed_and_nothing_else(store: LocalStore, root: TreeContent) -> None:
    home, later = str(store.home), int(time.time()) + 100
    engine = FakeEngine(files={"text": b""})
    session = Path(store.scratch.folder).name
    for labels in (
        labels_of(home, "gone", later),
        labels_of(home, session, later),
        labels_of("/another/home", "gone", later),
        labels_of("/another/home", "gone", 1),
    ):
        engine.create(Container("any", labels=labels))
    run(over(store, engine), ACTION, root)

    assert ["c1", "c2"] == list(engine.alive)


def test_pruning_removes_forge_s_images_and_what_was_left_to_look_at(store: LocalStore, root: TreeContent) -> None:
    engine = FakeEngine(code=1, known={"forge-test:x": [], "busybox:1": []})
    with pytest.raises(ActionFailed):
        run(over(store, engine, debug=True), ACTION, root)

    assert (2, 0) == prune(engine, store)
    assert ["busybox:1"] == list(engine.known)
    assert {} == engine.alive


def test_a_container_of_another_machine_is_not_ours() -> None:
    labels = {LABEL: "s", "forge.owner": "elsewhere:/home", "forge.until": "9999999999"}

    assert not is_left(labels, "/home", [], 0)


def test_an_action_of_a_real_image_runs_in_that_as_its_own_user(store: LocalStore) -> None:
    engine = FakeEngine(files={"text": b""})
    action = Action(("/harness",), outputs=("text",), properties=(CONTAINER,))
    layout = kept(store, {"index.json": File(store.put(b"{}"))})
    run(over(store, engine), action, None, image=layout, case=FileContent(store.put(b"c")))

    assert {f"loaded:{layout.root.hash[:4]}"} == {each.image for each in engine.made}
    assert "" == engine.made[1].user
    given = {each.name: each.mode for each in engine.given}
    assert {"build": 0o755, "build/case": 0o444, "build/out": 0o1777} == given


def test_only_such_actions_leave_the_sandbox_unless_all_do(store: LocalStore, root: TreeContent) -> None:
    engine = FakeEngine()

    class Local(LocalExecutor):
        def run(self, *args: object, **more: object) -> Outcome:
            return Outcome({}, "sandbox")

    local = Local(store, {}, lambda: "")
    executor = DockerExecutor(local, lambda: engine, lambda layout: "", everything=False)

    assert "sandbox" == run(executor, ACTION, root).log
    assert [] == engine.made


# With a real engine.


@pytest.fixture(scope="module")
def engine() -> DockerEngine:
    try:
        return DockerEngine(os.environ)
    except HostError as error:
        if os.environ.get("FORGE_REQUIRE_DOCKER") == "1":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    store = LocalStore(tmp_path_factory.mktemp("containers") / "home")
    return Shell(store, python_root(store))


@pytest.fixture(scope="module")
def docker(engine: DockerEngine, shell: Shell) -> Iterator[DockerExecutor]:
    local = LocalExecutor(shell.store, {}, lambda: find_bwrap(os.environ))
    yield DockerExecutor(local, lambda: engine, lambda layout: "")
    assert [] == mine(engine, shell.store)
    engine.remove_image(f"forge-root:{shell.root.root.hash}")


def mine(engine: DockerEngine, store: LocalStore) -> list[str]:
    return [name for name, labels in engine.containers() if labels.get("forge.owner", "").endswith(f":{store.home}")]


EVERYTHING = """
posix.mkdir('out/tree/sub'); posix.mkdir('out/tree/empty')
open('out/tree/sub/file', 'w').write(open('in/text').read() * 100_000)
open('out/tree/run', 'w').write('#!'); posix.chmod('out/tree/run', 0o755)
posix.symlink('sub/file', 'out/tree/link'); posix.link('out/tree/run', 'out/tree/second')
def refused(path):
    try: open(path, 'w')
    except OSError as error: return error.strerror
def look(folder):
    found = []
    for name in sorted(posix.listdir(folder)):
        status = posix.lstat(f'{folder}/{name}')
        found.append((name, oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime))
    return found
open('/tmp/x', 'w').write('x')
import _socket
try: _socket.socket().connect(('192.0.2.1', 80)); reached = 'the network'
except OSError as error: reached = error.strerror
seen = [posix.getcwd(), posix.getuid(), posix.getgid(), posix.uname()[1], sorted(posix.environ.items()), posix.umask(0),
        refused('/x'), refused('x'), refused('in/text'), look('in'), look('in/tree'), reached, sys.stdin.read(),
        posix.access('in/text', posix.X_OK), posix.access('in/run', posix.X_OK),
        posix.listdir('/sys') if 'sys' in posix.listdir('/') else []]
open('out/text', 'w').write(repr(seen))
print('seen')
"""


@pytest.mark.docker
def test_a_container_gives_what_the_sandbox_gives(docker: DockerExecutor, shell: Shell) -> None:
    tree = kept(shell.store, {"a": File(shell.store.put(b"a")), "b": File(shell.store.put(b"b"), True)})
    inputs: dict[str, Content] = {
        "in/text": FileContent(shell.store.put("grüße\n".encode())),
        "in/run": FileContent(shell.store.put(b"run"), True),
        "in/tree": tree,
    }
    env = {"HOME": "/tmp", "PATH": "/usr/bin", "NAME": "a b\n'\"$x"}
    action = shell.action(EVERYTHING, ("text", "tree/"), env)
    sandbox = shell.executor.run(action, inputs, shell.root, lambda done, total: None)
    container = docker.run(action, inputs, shell.root, lambda done, total: None)

    assert isinstance(sandbox.outputs["text"], FileContent) and isinstance(container.outputs["text"], FileContent)
    seen = [shell.store.read(each.digest) for each in (sandbox.outputs["text"], container.outputs["text"])]
    assert seen[0] == seen[1]
    assert sandbox == container


@pytest.mark.docker
@pytest.mark.parametrize(
    ("script", "how"),
    [
        ("print('why'); sys.exit(7)", "exit code 7"),
        ("posix.kill(posix.getpid(), 11)", "SIGSEGV"),
        ("posix.symlink('/etc/passwd', 'out/text')", "not a regular file"),
    ],
    ids=["code", "signal", "link"],
)
def test_a_real_failure_is_told_as_the_sandbox_tells_it(
    docker: DockerExecutor, shell: Shell, script: str, how: str
) -> None:
    with pytest.raises(ActionFailed, match=how) as error:
        run(docker, shell.action(script), shell.root)
    assert ("why" in script) == (error.value.log == "why")


@pytest.mark.docker
def test_a_real_container_ends_with_its_time_and_its_children(docker: DockerExecutor, shell: Shell) -> None:
    quick = Shell(shell.store, shell.root, timeout=2)
    begun = time.monotonic()
    with pytest.raises(ActionFailed, match="no end after 2 s"):
        run(docker, quick.action("import time\nif posix.fork() == 0: posix.setsid()\ntime.sleep(60)"), shell.root)

    assert time.monotonic() - begun < 30


@pytest.mark.docker
def test_stopping_leaves_no_real_container(engine: DockerEngine, shell: Shell) -> None:
    executor = DockerExecutor(LocalExecutor(shell.store, {}, lambda: ""), lambda: engine, lambda layout: "")
    errors: list[BaseException] = []

    def body() -> None:
        try:
            run(executor, shell.action("import time; time.sleep(60)"), shell.root)
        except Interrupted as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    wait_for(lambda: len(mine(engine, shell.store)) == 2)
    executor.stop()
    thread.join(60)

    assert 1 == len(errors)
    assert [] == mine(engine, shell.store)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
