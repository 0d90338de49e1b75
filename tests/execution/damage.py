"""What disks, power cuts and people do to files of the store."""

from __future__ import annotations

import os
from pathlib import Path

from forge.execution.store import STAMP, LocalStore


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


def unfinished(store: LocalStore) -> list[str]:
    """Names of the files below `tmp`, locks apart."""
    return [path.name for path in (store.home / "tmp").rglob("*") if path.is_file() and path.name != ".lock"]
