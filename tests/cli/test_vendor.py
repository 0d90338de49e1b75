"""Folders with materials: whole, verified, taken up where a call ended."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from forge.cli.material import Fetched
from forge.cli.vendoring import LIST, vendor
from forge.core.digest import Digest, Hash
from forge.core.errors import HostError, UserError
from forge.core.lock import Material
from forge.execution.store import LocalStore
from forge.packages.fetch import Fetcher
from forge.packages.sources import Sources

WHEEL = Fetched("x-1-py3-none-any.whl", Digest.of(b"wheel"), "x", "1", "pypi", "", "fetch:x")
DEB = Fetched("y_1_amd64.deb", Digest.of(b"deb"), "y", "1", "debian", "pool/main/y/y_1_amd64.deb", "fetch:y")
OTHER = replace(WHEEL, pin=Digest.of(b"another wheel"), source="pytorch-cpu")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store that has the bytes of all materials here."""
    store = LocalStore(tmp_path / "home")
    for data in (b"wheel", b"deb", b"another wheel"):
        store.put(data)
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "far" / "vendor"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_have_their_place_below_their_source_or_their_name(store: LocalStore, folder: Path) -> None:
    made = vendor(folder, [WHEEL, DEB], store)
    found = files(folder)

    assert b"deb" == found["pool/main/y/y_1_amd64.deb"]
    assert b"wheel" == found["x-1-py3-none-any.whl"]
    assert {LIST, *made.listed} == set(found)
    assert (2, 8) == (made.written, made.size)


def test_sha256sum_reads_the_list(store: LocalStore, folder: Path) -> None:
    vendor(folder, [WHEEL, DEB], store)
    done = subprocess.run(["sha256sum", "--check", "--strict", LIST], cwd=folder, capture_output=True, check=False)

    assert 0 == done.returncode


def test_two_files_of_one_name_are_told_apart_by_their_digest(store: LocalStore, folder: Path) -> None:
    vendor(folder, [WHEEL], store)
    vendor(folder, [OTHER, WHEEL], store)

    assert {WHEEL.file, f"{OTHER.pin.hash}/{OTHER.file}", LIST} == set(files(folder))


@pytest.mark.parametrize("each", [WHEEL, OTHER, DEB], ids=["wheel", "its like", "deb"])
def test_a_source_reads_what_was_vendored(store: LocalStore, folder: Path, tmp_path: Path, each: Fetched) -> None:
    vendor(folder, [WHEEL, DEB, OTHER], store)
    sources = Sources.read({"*": "vendor", "debian": []}, {"PIP_NO_INDEX": "1"}, root=folder.parent, etc=tmp_path)
    empty = LocalStore(tmp_path / "empty")
    material = Material(each.name, each.version, each.file, each.pin, each.source, each.path)

    assert each.pin == Fetcher(sources, empty, None).fetch(material)


@pytest.mark.parametrize("path", ["https://127.0.0.1/x/../../etc/x", "../x", "/etc/x", "a//x"])
def test_a_path_that_leads_out_is_not_followed(store: LocalStore, folder: Path, path: str) -> None:
    vendor(folder, [replace(WHEEL, path=path)], store)

    assert {WHEEL.file, LIST} == set(files(folder))


def test_what_is_there_is_left_and_what_is_damaged_made_whole(store: LocalStore, folder: Path) -> None:
    vendor(folder, [WHEEL, DEB], store)
    (folder / WHEEL.file).write_bytes(b"whole")
    before = (folder / DEB.path).stat().st_mtime_ns
    reported: list[str] = []
    made = vendor(folder, [WHEEL, DEB], store, reported.append)

    assert [WHEEL.file] == reported
    assert (1, b"wheel") == (made.written, (folder / WHEEL.file).read_bytes())
    assert before == (folder / DEB.path).stat().st_mtime_ns


def test_the_list_keeps_what_earlier_calls_brought_and_drops_what_is_gone(store: LocalStore, folder: Path) -> None:
    vendor(folder, [WHEEL], store)
    (folder / LIST).write_text((folder / LIST).read_text() + f"{'0' * 64}  gone\nno line of a list\n")
    made = vendor(folder, [DEB], store)

    assert {WHEEL.file, DEB.path} == set(made.listed)


def test_an_interrupted_call_is_taken_up(store: LocalStore, folder: Path) -> None:
    def stop(path: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vendor(folder, [WHEEL, DEB], store, stop)
    begun = files(folder)
    made = vendor(folder, [WHEEL, DEB], store)

    assert 1 == len(begun)
    assert 1 == made.written
    assert {LIST, WHEEL.file, DEB.path} == set(files(folder))


def test_the_same_call_gives_the_same_folder(store: LocalStore, tmp_path: Path) -> None:
    wanted = [OTHER, WHEEL, DEB]
    for name in ("a", "b"):
        vendor(tmp_path / name, wanted, store)

    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_material_whose_size_no_lock_knows_is_found_by_its_hash(store: LocalStore, folder: Path) -> None:
    vendor(folder, [replace(WHEEL, pin=Hash(hashlib.sha256(b"wheel").hexdigest()))], store)

    assert b"wheel" == (folder / WHEEL.file).read_bytes()


def test_damage_in_the_store_is_not_carried_on(store: LocalStore, folder: Path) -> None:
    assert isinstance(WHEEL.pin, Digest)
    blob = store.path(WHEEL.pin)
    stamp = blob.stat()
    blob.chmod(0o644)
    blob.write_bytes(b"whale")
    os.utime(blob, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # the one change that the store does not see

    with pytest.raises(UserError, match="of the store is damaged"):
        vendor(folder, [WHEEL], store)

    assert [] == list(folder.iterdir())
    with pytest.raises(KeyError):
        store.open(WHEEL.pin)


def test_a_folder_that_cannot_be_made_is_this_machine_s_fault(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(HostError):
        vendor(tmp_path / "file" / "below", [WHEEL], store)
