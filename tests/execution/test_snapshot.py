"""The build with nothing to do: answered from `stat` alone, and only when it is true."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from forge.cli import main
from forge.execution import snapshot
from forge.execution.home import home_folder
from forge.execution.store import STAMP, LocalStore
from forge.loading.reader import Reader

SAID = {"stdout": "out\n", "stderr": "err\n"}
ARGV = ["build", "//..."]


class World:
    """A workspace whose build has just been noted."""

    def __init__(self, folder: Path) -> None:
        self.root, self.home = folder / "workspace", folder / "home"
        (self.root / "pkg").mkdir(parents=True)
        for name in ("WORKSPACE.toml", "pkg/BUILD.toml", "pkg/source"):
            (self.root / name).write_text(name)
        store = LocalStore(self.home)
        self.blob = store.path(store.put(b"output"))
        (self.root / "out").symlink_to(self.blob)
        time.sleep(0.03)
        self.started = time.time_ns()
        self.environ = {"FORGE_HOME": str(self.home), "HOME": "/nowhere"}
        state = snapshot.state_folder(str(self.home), str(self.root))
        os.makedirs(state, exist_ok=True)
        self.path = snapshot.snapshot_path(state, ARGV)

    def note(self) -> bool:
        """Look at everything, and write the snapshot."""
        reader = Reader()
        for path in reader.walk(self.root / "pkg"):
            reader.read(self.root / "pkg" / path)
        reader.read(self.root / "WORKSPACE.toml")
        reader.read(self.root / "pkg/absent.toml")
        reader.names(self.root / "rules")
        shards = {str(path): path.stat().st_mtime_ns for path in (self.home / "cas").iterdir()}
        return snapshot.save(
            self.path,
            self.identity(),
            started=self.started,
            files=reader.files,
            folders=reader.folders | shards,
            blobs={str(self.blob): 6},
            links={str(self.root / "out"): str(self.blob)},
            said=SAID,
        )

    def identity(self, argv: list[str] | None = None, cwd: str = "", **environ: str) -> tuple[object, ...]:
        return snapshot.identity(argv or ARGV, str(self.root), cwd or str(self.root), self.environ | environ)

    def ask(self) -> dict[str, str] | None:
        return snapshot.unchanged(self.path, self.identity())


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    assert world.note()
    assert SAID == world.ask()
    return world


def rewrite(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text)


def relink(world: World) -> None:
    (world.root / "out").unlink()
    (world.root / "out").symlink_to("elsewhere")


def same_size_and_time(world: World) -> None:
    path = world.root / "pkg/source"
    before = path.stat()
    path.write_text("pkg/SOURCE")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[World], object]] = {
    "source changed": lambda world: rewrite(world.root / "pkg/source", "changed"),
    "source changed, its time set back": same_size_and_time,
    "source touched": lambda world: os.utime(world.root / "pkg/source"),
    "source removed": lambda world: (world.root / "pkg/source").unlink(),
    "BUILD.toml changed": lambda world: rewrite(world.root / "pkg/BUILD.toml", "changed"),
    "file added to a listed folder": lambda world: (world.root / "pkg/new").write_text(""),
    "absent file added": lambda world: (world.root / "pkg/absent.toml").write_text(""),
    "absent folder added": lambda world: (world.root / "rules").mkdir(),
    "blob removed": lambda world: world.blob.unlink(),
    "blob changed": lambda world: rewrite(world.blob, "OUTPUT"),
    "blob truncated": lambda world: os.truncate(world.blob, 3),
    "another blob removed": lambda world: os.utime(world.blob.parent),
    "link removed": lambda world: (world.root / "out").unlink(),
    "link changed": relink,
    "snapshot torn": lambda world: os.truncate(world.path, 40),
    "snapshot empty": lambda world: os.truncate(world.path, 0),
    "snapshot of something else": lambda world: Path(world.path).write_bytes(b"N"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_makes_the_build_look_properly(world: World, change: Callable[[World], object]) -> None:
    change(world)

    assert world.ask() is None


def test_another_command_folder_or_setting_is_another_build(world: World) -> None:
    others = [
        world.identity(["build", "//pkg"]),
        world.identity(cwd=str(world.root / "pkg")),
        world.identity(FORGE_BWRAP="/other"),
    ]

    assert [None] * 3 == [snapshot.unchanged(world.path, other) for other in others]
    assert SAID == snapshot.unchanged(world.path, world.identity(LANG="C"))


REMOTE = ["--remote-cache=https://ci:hunter2@cache", "--remote_header", "authorization=hunter2", "--remote-timeout=3"]


def test_which_remote_cache_there_is_makes_no_difference_and_is_not_noted(world: World) -> None:
    argv = [*ARGV[:1], *REMOTE, *ARGV[1:]]
    identity = world.identity(argv, FORGE_REMOTE_HEADER="authorization=hunter2", FORGE_REMOTE_CACHE="grpc://cache")

    assert SAID == snapshot.unchanged(world.path, identity)
    assert "hunter2" not in repr(identity)
    assert snapshot.snapshot_path("state", argv) == snapshot.snapshot_path("state", ARGV)


@pytest.mark.parametrize(
    ("argv", "environ"),
    [
        ([*ARGV, "--remote-upload-cached-results"], {}),
        ([*ARGV, "--", *REMOTE], {}),
        (ARGV, {"FORGE_REMOTE_UPLOAD_CACHED_RESULTS": "1"}),
    ],
)
def test_giving_what_is_cached_is_another_build(world: World, argv: list[str], environ: dict[str, str]) -> None:
    assert snapshot.unchanged(world.path, world.identity(argv, **environ)) is None


@pytest.mark.parametrize("what", ["file", "folder"])
def test_nothing_is_noted_when_something_changed_too_lately_to_tell(tmp_path: Path, what: str) -> None:
    world = World(tmp_path)
    world.started = time.time_ns()
    (world.root / "pkg" / ("source" if what == "file" else "new")).write_text("x")
    if what == "folder":  # the new file itself is old
        (world.root / "pkg/new").unlink()

    assert not world.note()
    assert world.ask() is None


def test_a_time_in_the_future_does_not_keep_a_build_from_being_noted(tmp_path: Path) -> None:
    world = World(tmp_path)
    os.utime(world.root / "pkg/source", (4e9, 4e9))
    time.sleep(0.03)
    world.started = time.time_ns()

    assert world.note()
    assert SAID == world.ask()


def test_a_snapshot_that_cannot_be_written_is_no_error(world: World) -> None:
    Path(world.path).unlink()
    Path(world.path).parent.rename(world.home / "gone")

    assert not world.note()


def test_the_constant_time_is_the_store_s() -> None:
    assert STAMP * 10**9 == snapshot.STAMP_NS


@pytest.mark.parametrize(
    "environ",
    [
        {"FORGE_HOME": "/a/../b"},
        {"FORGE_HOME": "~/x", "HOME": "/h"},
        {"XDG_CACHE_HOME": "/c", "HOME": "/h"},
        {"HOME": "/h"},
    ],
)
def test_the_short_path_finds_the_same_store(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORGE_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert os.path.realpath(home_folder(environ)) == os.path.realpath(main.home())


def test_nothing_to_do_is_said_without_importing_anything_heavy(world: World) -> None:
    script = """
import sys
before = set(sys.modules)
from forge.cli.main import nothing_to_do
said = nothing_to_do(["build", "//..."])
print(said)
print(*sorted(set(sys.modules) - before))
"""
    env = {**world.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=world.root, env=env, capture_output=True, text=True, check=True
    )
    said, modules = done.stdout.splitlines()

    assert repr(SAID) == said
    extra = {"forge", "forge.cli", "forge.cli.main", "forge.execution", "forge.execution.snapshot"}
    assert extra | {"marshal", "zlib", "__future__"} >= set(modules.split())


def test_the_note_names_the_store_s_folders_by_where_it_lies(world: World) -> None:
    """The store's folders change in every build; `save` tells them from the workspace's by the snapshot's own path."""
    (world.home / "cas" / "zz").mkdir()

    assert world.note()
