"""What a person is shown of a lock's change."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from forge.cli.lock_diff import differences
from forge.core.digest import Digest
from forge.core.lock import Lock, Material, MissingMaterial
from tests.core.test_lock import LOCKS

ONE, TWO = Digest.of(b"1"), Digest.of(b"2")
A = Material("a", "1", "a-1.whl", ONE, "pypi")
DEB = Material("b", "1", "b_1.deb", ONE, "debian", "pool/b_1.deb", "bookworm")
FILE = Material("acme/x", "c1", "config.json", ONE, "hf", "acme/x/resolve/c1/config.json")


def lock(*materials: Material, **more: object) -> Lock:
    return replace(Lock("python", "amd64", ("a",), materials), **more)  # type: ignore[arg-type]


def model(revision: str, *files: Material) -> Lock:
    moved = tuple(replace(each, version=revision) for each in files)
    return Lock("model", "all", (), moved, "acme/x" if revision else "", revision)


@given(LOCKS)
def test_a_lock_does_not_differ_from_itself(lock: Lock) -> None:
    assert differences(lock, lock) == ()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, lock(A), ["added a 1"]),
        (lock(A), lock(), ["removed a 1"]),
        (lock(A), lock(replace(A, version="2", file="a-2.whl", digest=TWO)), ["changed a: 1 -> 2"]),
        (lock(A), lock(replace(A, file="a-1-1.whl", digest=TWO)), ["changed a 1: a-1.whl -> a-1-1.whl"]),
        (
            lock(A),
            lock(replace(A, digest=TWO)),
            [f"REPLACED a 1: other bytes under the same version, sha256 {ONE.hash} -> {TWO.hash}"],
        ),
        (lock(A), lock(replace(A, source="far")), ["moved a 1: from source pypi to far"]),
        (lock(DEB), lock(replace(DEB, suite="security")), ["moved b 1: from suite bookworm to security"]),
        (None, model("c1", FILE), ["added acme/x c1", "added config.json"]),
        (model("c1", FILE), model("c2", FILE), ["changed acme/x: c1 -> c2"]),
        (
            model("c1", FILE),
            model("c2", replace(FILE, digest=TWO)),
            ["changed acme/x: c1 -> c2", f"changed config.json: sha256 {ONE.hash} -> {TWO.hash}"],
        ),
        (
            model("", FILE),
            model("", replace(FILE, digest=TWO)),
            [f"REPLACED config.json: sha256 {ONE.hash} -> {TWO.hash}"],
        ),
        (
            lock(A, missing=(MissingMaterial("x", "x", "far"),)),
            lock(A, missing=(MissingMaterial("x", "x", "far"), MissingMaterial("y", "y==2", "far"))),
            ["missing `y==2` of source `far`"],
        ),
    ],
    ids=[
        "added", "removed", "version", "file", "replaced", "source", "suite", "model", "commit", "commit and file",
        "file at an address", "missing",
    ],
)  # fmt: skip
def test_each_change_has_its_line(old: Lock | None, new: Lock, expected: list[str]) -> None:
    assert list(differences(old, new)) == expected
