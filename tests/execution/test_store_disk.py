"""The store on a full disk, after a kill, under a newer forge, and among many processes."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge.core.digest import Digest
from forge.core.errors import HostError
from forge.core.tool import FileContent
from forge.execution.action_cache import ActionCache
from forge.execution.store import LocalStore
from tests.execution.damage import unfinished


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "home")


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    LocalStore(tmp_path)
    (tmp_path / "version").write_text("99\n")

    with pytest.raises(HostError, match="schema 99") as error:
        LocalStore(tmp_path)
    assert 36 == error.value.exit_code
    assert "FORGE_HOME" in str(error.value)


def test_an_empty_version_file_is_what_a_power_cut_leaves(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("")

    LocalStore(tmp_path)

    assert "1\n" == (tmp_path / "version").read_text()


def test_a_file_in_place_of_the_store_is_a_host_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")

    with pytest.raises(HostError, match="home"):
        LocalStore(tmp_path / "home")


def write_same(home: Path, count: int) -> None:
    store = LocalStore(home)
    for number in range(count):
        store.put(b"%d" % number * 1000)


def test_many_processes_write_the_same_blobs(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_same, args=(tmp_path / "home", 100)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)

    store = LocalStore(tmp_path / "home")
    assert [0] * 4 == [process.exitcode for process in processes]
    assert all(store.read(Digest.of(b"%d" % n * 1000)) == b"%d" % n * 1000 for n in range(100))


def test_a_limit_on_file_sizes_is_a_host_error_and_leaves_nothing(tmp_path: Path) -> None:
    script = f"""
import resource
from pathlib import Path
from forge.core.digest import Digest
from forge.core.errors import HostError
from forge.execution.store import LocalStore
store = LocalStore(Path({str(tmp_path)!r}))
store.scratch.folder
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store.put(bytes(200_000))
except HostError as error:
    print(error.exit_code, {str(tmp_path)!r} in str(error))
print([path.name for path in store.home.joinpath("tmp").rglob("*") if path.is_file()])
print(store.read(store.put(b"small")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=_env())

    assert "36 True\n['.lock']\nb'small'\n" == done.stdout, done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "forge-test", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("May not mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # stores keep their lock open


def test_a_full_disk_is_a_host_error_and_frees_what_was_half_written(small_disk: Path) -> None:
    store = LocalStore(small_disk)
    kept = store.put(b"kept")
    free = os.statvfs(small_disk).f_bavail

    with pytest.raises(HostError, match="No space left") as error:
        store.put(os.urandom(2 << 20))
    assert 36 == error.value.exit_code
    assert str(small_disk) in str(error.value)
    assert free == os.statvfs(small_disk).f_bavail
    assert unfinished(store) == []
    assert b"kept" == store.read(kept)
    assert b"more" == store.read(store.put(b"more"))


def test_a_full_disk_leaves_no_half_of_an_executable_a_recipe_or_a_result(small_disk: Path) -> None:
    store = LocalStore(small_disk)
    digest = store.put(bytes(600_000))
    cache = ActionCache(store)

    with pytest.raises(HostError, match="No space left"):
        store.sound_path(digest, executable=True)
    with pytest.raises(HostError, match="No space left"):
        store.put_recipe(Digest.of(b""), [bytes(600_000)])
    with pytest.raises(HostError, match="No space left"):
        cache.put(Digest.of(b"key"), {f"{n:0200}": FileContent(digest) for n in range(4000)})
    assert unfinished(store) == []
    assert store.contains(store.put(b"more"))


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from forge.execution.store import LocalStore
store = LocalStore(Path(sys.argv[1]))
with store.writer() as writer:
    writer.write(b"half")
    print(store.scratch.folder, flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_env()) for _ in range(2)]
    try:
        dead, alive = (Path(process.stdout.readline().strip()) for process in processes if process.stdout)
        processes[0].kill()
        processes[0].wait()
        store = LocalStore(tmp_path)
        store.put(b"x")

        assert not dead.exists()
        assert alive.is_dir()
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _env() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(sys.path)}
