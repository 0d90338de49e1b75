"""Digests of sources: remembered when nothing changed, never when something did."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from forge.core.artifact import Source
from forge.core.errors import LoadError
from forge.execution.source import SourceCache
from tests.execution.workshop import sha256

SOURCE = Source("file.txt")


class Notebook:
    """A workspace with one source and the note that outlives a build."""

    def __init__(self, folder: Path) -> None:
        self.file, self.note = folder / "file.txt", folder / "note"

    def hash(self) -> str:
        cache = SourceCache({"workspace": self.file.parent}, self.note)
        try:
            return cache.content(SOURCE).digest.hash
        finally:
            cache.save()

    def settle(self) -> None:
        """Wait until the last edit is old enough to be told from a later one."""
        time.sleep(0.04)

    def poison(self) -> None:
        """Put a wrong hash into the note: whoever believes it has not read the file."""
        data = self.note.read_bytes()[32:].replace(self.hash().encode(), b"0" * 64)
        self.note.write_bytes(hashlib.sha256(data).digest() + data)


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    notebook = Notebook(tmp_path)
    notebook.file.write_text("text")
    return notebook


def test_a_file_is_hashed_once(notebook: Notebook) -> None:
    notebook.settle()
    assert sha256(b"text") == notebook.hash()
    notebook.poison()

    assert "0" * 64 == notebook.hash()


def test_a_touched_file_is_hashed_again(notebook: Notebook) -> None:
    notebook.settle()
    notebook.hash()
    notebook.poison()
    os.utime(notebook.file)

    assert sha256(b"text") == notebook.hash()


def test_an_edit_of_the_same_size_right_after_is_seen(notebook: Notebook) -> None:
    """tup left 86 of 100 outputs stale here."""
    for number in range(200):
        notebook.file.write_text(f"{number:04}")

        assert sha256(b"%04d" % number) == notebook.hash()


def test_a_file_that_was_changed_just_now_is_not_remembered(notebook: Notebook) -> None:
    """A second edit in the same tick of the file system's clock would look the same."""

    def is_forgotten() -> bool:
        notebook.note.unlink(missing_ok=True)
        notebook.file.write_text("text")
        notebook.hash()
        return not notebook.note.exists()

    assert any(is_forgotten() for _ in range(10))  # once is enough: a busy machine may be late


@pytest.mark.parametrize("when", [0, 2_000_000_000 * 10**9, None], ids=["1970", "2033", "as before"])
def test_an_edit_with_its_time_set_by_hand_is_seen(notebook: Notebook, when: int | None) -> None:
    notebook.settle()
    notebook.hash()
    before = notebook.file.stat().st_mtime_ns
    notebook.file.write_text("TEXT")
    os.utime(notebook.file, ns=(before if when is None else when,) * 2)

    assert sha256(b"TEXT") == notebook.hash()


def test_a_time_in_the_future_does_not_make_a_file_forgotten(notebook: Notebook) -> None:
    os.utime(notebook.file, (4e9, 4e9))
    notebook.settle()
    notebook.hash()
    notebook.poison()

    assert "0" * 64 == notebook.hash()


def test_a_file_that_was_replaced_is_seen(notebook: Notebook) -> None:
    notebook.settle()
    notebook.hash()
    other = notebook.file.with_name("other")
    other.write_text("TEXT")
    os.utime(other, ns=(notebook.file.stat().st_mtime_ns,) * 2)
    other.replace(notebook.file)

    assert sha256(b"TEXT") == notebook.hash()


def test_the_executable_bit_is_content(notebook: Notebook) -> None:
    cache = SourceCache({"workspace": notebook.file.parent}, notebook.note)
    assert not cache.content(SOURCE).executable
    notebook.file.chmod(0o755)

    assert cache.content(SOURCE).executable


@pytest.mark.parametrize("damage", ["empty", "torn", "bit"])
def test_a_damaged_note_is_forgotten(notebook: Notebook, damage: str) -> None:
    notebook.settle()
    notebook.hash()
    data = notebook.note.read_bytes()
    flipped = data.replace(sha256(b"text")[:1].encode(), b"0")
    notebook.note.write_bytes({"empty": b"", "torn": data[:-9], "bit": flipped}[damage])

    assert sha256(b"text") == notebook.hash()


def test_a_pipe_is_refused_and_not_waited_for(notebook: Notebook) -> None:
    notebook.file.unlink()
    os.mkfifo(notebook.file)

    with pytest.raises(LoadError, match="not a regular file"):
        notebook.hash()


def test_a_file_that_is_gone_is_named(notebook: Notebook) -> None:
    notebook.file.unlink()

    with pytest.raises(LoadError, match=r"file\.txt.*No such file"):
        notebook.hash()
