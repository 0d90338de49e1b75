"""The store through its public face, on real folders."""

from __future__ import annotations

import multiprocessing
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge.core.digest import Digest
from forge.core.errors import HostError, MaterialError
from forge.core.tool import FileContent, TreeContent
from forge.core.tree import File, Tree
from forge.execution.action_cache import ActionCache
from forge.execution.materialize import materialize
from forge.execution.store import STAMP, LocalStore, MissingBlob
from tests.execution.workshop import sha256

HELLO = b"hello\n" * 100


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "home")


def unfinished(store: LocalStore) -> list[str]:
    """Names of the files below `tmp`, locks apart."""
    return [path.name for path in (store.home / "tmp").rglob("*") if path.is_file() and path.name != ".lock"]


def test_what_is_put_is_read_back_by_its_sha256(store: LocalStore) -> None:
    digest = store.put(HELLO)

    assert Digest(sha256(HELLO), len(HELLO)) == digest
    assert HELLO == store.read(digest)
    assert store.contains(digest)
    assert HELLO == store.path(digest).read_bytes()
    assert unfinished(store) == []


def test_what_is_not_there_is_a_missing_blob_and_a_key_error(store: LocalStore) -> None:
    absent = Digest.of(b"absent")

    assert not store.contains(absent)
    with pytest.raises(KeyError):
        store.open(absent)
    with pytest.raises(MissingBlob):
        store.verify(absent)


def test_bytes_that_are_not_the_expected_ones_are_not_kept(store: LocalStore) -> None:
    with pytest.raises(MaterialError, match="Wrong content"), store.writer() as writer:
        writer.write(b"other")
        writer.commit(Digest.of(HELLO))

    assert not store.contains(Digest.of(HELLO))
    assert not store.contains(Digest.of(b"other"))
    assert unfinished(store) == []


def test_a_writer_that_is_left_without_commit_keeps_nothing(store: LocalStore) -> None:
    with pytest.raises(ZeroDivisionError), store.writer() as writer:
        writer.write(HELLO)
        _ = 1 // 0

    assert not store.contains(Digest.of(HELLO))
    assert unfinished(store) == []


def test_a_recipe_reads_as_its_parts(store: LocalStore) -> None:
    weights = store.put(b"w" * 70_000)
    whole = b"head" + b"w" * 70_000 + b"tail"

    store.put_recipe(Digest.of(whole), [b"head", weights, b"tail"])

    assert whole == store.read(Digest.of(whole))
    assert store.contains(Digest.of(whole))
    assert not store.path(Digest.of(whole)).exists()
    assert store.sound_path(Digest.of(whole)).read_bytes() == whole


def test_a_recipe_without_its_parts_is_not_there(store: LocalStore) -> None:
    part = store.put(b"part")
    store.put_recipe(Digest.of(b"a part"), [b"a ", part])
    store.path(part).unlink()

    assert not store.contains(Digest.of(b"a part"))
    assert bytes.fromhex(Digest.of(b"a part").hash) not in store.present()
    with pytest.raises(MissingBlob):
        store.verify(Digest.of(b"a part"))


@pytest.mark.parametrize("position", [0, 40, -5], ids=["checksum", "size", "literal"])
def test_a_changed_recipe_is_no_recipe(store: LocalStore, position: int) -> None:
    whole = Digest.of(b"literal bytes")
    store.put_recipe(whole, [b"literal bytes"])
    file = store.home / "recipes" / whole.hash
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)

    assert not store.contains(whole)
    with pytest.raises(MissingBlob):
        store.open(whole)


def test_a_recipe_that_makes_something_else_is_found_out_when_it_becomes_a_file(store: LocalStore) -> None:
    claimed = Digest.of(b"claimed")
    store.put_recipe(claimed, [b"differs"])

    with pytest.raises(MissingBlob):
        store.sound_path(claimed)
    assert not store.contains(claimed)


def test_files_are_read_only_and_an_executable_is_a_copy_of_its_own(store: LocalStore, tmp_path: Path) -> None:
    digest = store.put(HELLO)
    store.link(digest, tmp_path / "plain")
    store.link(digest, tmp_path / "program", executable=True)

    assert 0o444 == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert 0o555 == stat.S_IMODE((tmp_path / "program").stat().st_mode)
    assert (tmp_path / "plain").samefile(store.path(digest))
    assert not (tmp_path / "program").samefile(store.path(digest))
    assert HELLO == (tmp_path / "program").read_bytes()


def test_a_link_never_writes_into_what_is_there(store: LocalStore, tmp_path: Path) -> None:
    canary, other = store.put(b"canary"), store.put(b"other!")
    store.link(canary, tmp_path / "file")

    with pytest.raises(HostError):
        store.link(other, tmp_path / "file")
    assert b"canary" == store.path(canary).read_bytes()


def test_a_link_to_another_device_is_a_copy(store: LocalStore, tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("No second file system")
    digest = store.put(HELLO)
    target = shared / f"forge-test-{os.getpid()}"
    try:
        store.link(digest, target)

        assert HELLO == target.read_bytes()
        assert STAMP == target.stat().st_mtime
    finally:
        target.unlink(missing_ok=True)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty_as_by_a_power_cut(path: Path) -> None:
    os.truncate(path, 0)
    os.utime(path, (STAMP, STAMP))


FAULTS = [flip, truncate, empty_as_by_a_power_cut, Path.unlink]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_damaged_blob_is_never_read(store: LocalStore, fault: object) -> None:
    digest = store.put(HELLO)
    fault(store.path(digest))  # type: ignore[operator]

    with pytest.raises(MissingBlob) as error:
        store.open(digest)
    assert (fault is not Path.unlink) == error.value.corrupt
    assert not store.contains(digest)

    store.put(HELLO)
    assert HELLO == store.read(digest)


def test_a_damaged_blob_is_put_aside_for_whoever_wants_to_know(store: LocalStore) -> None:
    digest = store.put(HELLO)
    flip(store.path(digest))

    with pytest.raises(MissingBlob):
        store.verify(digest)
    assert [digest.hash] == os.listdir(store.home / "quarantine")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_damaged_executable_copy_is_made_again(store: LocalStore, fault: object) -> None:
    digest = store.put(HELLO)
    copy = store.sound_path(digest, executable=True)
    fault(copy)  # type: ignore[operator]

    assert HELLO == store.sound_path(digest, executable=True).read_bytes()


def test_a_blob_that_was_only_touched_is_still_good(store: LocalStore) -> None:
    digest = store.put(HELLO)
    os.utime(store.path(digest))

    assert HELLO == store.read(digest)
    assert STAMP == store.path(digest).stat().st_mtime


def test_a_recipe_stands_in_for_a_damaged_file(store: LocalStore) -> None:
    part = store.put(b"x" * 1000)
    whole = Digest.of(b"h" + b"x" * 1000)
    store.put_recipe(whole, [b"h", part])
    flip(store.sound_path(whole))

    assert b"h" + b"x" * 1000 == store.read(whole)


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


def test_a_tree_is_made_once_out_of_links(store: LocalStore) -> None:
    content, tree = two_files(store)
    folder = materialize(store, content)
    made = folder.stat().st_ino

    assert made == materialize(store, content).stat().st_ino
    assert (folder / "a/one").samefile(store.path(Digest.of(b"one")))
    assert os.access(folder / "two", os.X_OK)
    assert tree.root.hash == folder.name


@pytest.mark.parametrize("change", ["added", "removed", "edited", "folder gone"])
def test_a_tree_that_was_changed_on_disk_is_made_again(store: LocalStore, change: str) -> None:
    content, _ = two_files(store)
    folder = materialize(store, content)
    if change == "added":
        (folder / "a/extra").write_text("x")
    elif change == "removed":
        (folder / "two").unlink()
    elif change == "edited":
        (folder / "a/one").unlink()
        (folder / "a/one").write_text("ONE")
    else:
        (folder / "a/one").unlink()
        (folder / "a").rmdir()

    again = materialize(LocalStore(store.home), content)

    assert folder == again
    assert ["a", "a/one", "two"] == sorted(path.relative_to(again).as_posix() for path in again.rglob("*"))
    assert "one" == (again / "a/one").read_text()


@pytest.mark.parametrize("name", ["a/one", "two"])
def test_a_file_of_a_tree_that_was_changed_in_place_is_found(store: LocalStore, name: str) -> None:
    content, _ = two_files(store)
    flip(materialize(store, content) / name)
    fresh = LocalStore(store.home)

    if name == "a/one":  # the blob itself
        with pytest.raises(MissingBlob):
            materialize(fresh, content)
        fresh.put(b"one")
    folder = materialize(fresh, content)

    assert (b"one", b"two") == ((folder / "a/one").read_bytes(), (folder / "two").read_bytes())


def two_files(store: LocalStore) -> tuple[TreeContent, Tree]:
    tree = Tree.of({"a/one": File(store.put(b"one")), "two": File(store.put(b"two"), True)})
    store.put(tree.encoded)
    return TreeContent(tree.digest, tree.root), tree


@pytest.mark.parametrize("damage", ["torn", "empty", "bit", "closure empty", "closure bit"])
def test_a_damaged_result_is_a_miss_and_a_damaged_note_is_made_again(store: LocalStore, damage: str) -> None:
    content, _ = two_files(store)
    key = Digest.of(b"key")
    cache = ActionCache(store)
    cache.put(key, {"tree/": content})
    assert {"tree/": content} == cache.get(key)
    folder, _, how = damage.rpartition(" ")
    file = next(path for path in (store.home / ("closures" if folder else "ac")).rglob("*") if path.is_file())
    data = file.read_bytes()
    file.write_bytes({"torn": data[:-3], "empty": b"", "bit": data[:-1] + bytes([data[-1] ^ 1])}[how])

    found = ActionCache(LocalStore(store.home)).get(key)

    assert found == ({"tree/": content} if folder else None)


@pytest.mark.parametrize("which", [b"one", b"two"])
def test_a_result_whose_tree_lacks_a_file_is_a_miss(store: LocalStore, which: bytes) -> None:
    content, _ = two_files(store)
    key = Digest.of(b"key")
    ActionCache(store).put(key, {"tree/": content})
    store.path(Digest.of(which)).unlink()

    assert ActionCache(store).get(key) is None


def test_stray_files_in_the_store_do_no_harm(store: LocalStore) -> None:
    store.put(b"x")
    (store.home / "cas" / "README").write_text("")
    (store.home / "cas" / "zz").mkdir()
    (store.home / "cas" / "zz" / ("z" * 64)).write_text("")
    (store.home / "recipes" / "short").write_text("")

    assert {bytes.fromhex(Digest.of(b"x").hash)} == store.present()


def _env() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(sys.path)}
