from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.core.digest import EMPTY, Digest
from forge.core.lock import Lock, LockError, LockRequest, Material, parse, render

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
FILES = st.from_regex(r"[A-Za-z0-9_.+~%:@!-][A-Za-z0-9_.+~%:@! -]{0,8}", fullmatch=True).filter(
    lambda name: name not in (".", "..")
)
MATERIALS = st.builds(
    Material,
    name=TEXTS,
    version=TEXTS,
    file=FILES,
    digest=st.binary(max_size=4).map(Digest.of),
    source=TEXTS,
    path=st.sampled_from(["", "pool/main/a/a.deb"]),
    suite=st.sampled_from(["", "bookworm"]),
)
LOCKS = st.builds(
    Lock,
    kind=st.sampled_from(["deb", "python", "model"]),
    arch=st.sampled_from(["amd64", "arm64"]),
    requested=st.lists(TEXTS, max_size=3).map(lambda texts: tuple(sorted(texts))),
    materials=st.lists(MATERIALS, max_size=3).map(
        lambda found: tuple(sorted(found, key=lambda each: (each.name, each.version, each.file)))
    ),
)

ENTRY: dict[str, object] = {
    "name": "a", "version": "1", "file": "a.deb", "sha256": EMPTY.hash, "size": 0, "source": "debian",
}  # fmt: skip
TABLE: dict[str, object] = {"version": 1, "kind": "deb", "arch": "amd64", "requested": ["a"], "package": [ENTRY]}


@given(LOCKS)
def test_reads_back_what_it_writes(lock: Lock) -> None:
    assert parse(tomllib.loads(render(lock))) == lock


def test_the_order_of_materials_does_not_matter() -> None:
    one, other = (Material(name, "1", f"{name}.deb", EMPTY, "debian") for name in "ab")

    assert render(Lock("deb", "amd64", ("a", "b"), (one, other))) == render(
        Lock("deb", "amd64", ("b", "a"), (other, one))
    )


def test_writes_what_a_person_can_review() -> None:
    material = Material("libc6", "2.36-9", "libc6_2.36-9_amd64.deb", EMPTY, "debian", "pool/libc6.deb", "bookworm")

    assert render(Lock("deb", "amd64", ("libc6",), (material,))).splitlines() == [
        "# Written by `forge lock`; do not edit.",
        "version = 1",
        'kind = "deb"',
        'arch = "amd64"',
        "requested = [",
        '    "libc6",',
        "]",
        "",
        "[[package]]",
        'name = "libc6"',
        'version = "2.36-9"',
        'file = "libc6_2.36-9_amd64.deb"',
        f'sha256 = "{EMPTY.hash}"',
        "size = 0",
        'source = "debian"',
        'suite = "bookworm"',
        'path = "pool/libc6.deb"',
    ]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"version": 2}, "Lock version is `2`"),
        ({"version": None}, "Lock version is `None`"),
        ({"kind": "conda"}, "Unknown kind of lock `conda`"),
        ({"arch": ""}, "`arch` is missing"),
        ({"arch": 3}, "`arch` is missing or not text"),
        ({"requested": "a"}, "`requested` must be a list"),
        ({"requested": [3]}, "`requested` must be a list"),
        ({"package": {}}, "`package` must be a list"),
        ({"package": [3]}, "`package` must be a list"),
    ],
)
def test_refuses_a_table_that_is_no_lock(change: dict[str, object], fault: str) -> None:
    with pytest.raises(LockError, match=fault):
        parse({**TABLE, **change})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": ""}, "`name` is missing"),
        ({"file": "../a.deb"}, "no plain file name"),
        ({"file": ".."}, "no plain file name"),
        ({"file": "a/b"}, "no plain file name"),
        ({"file": " a"}, "no plain file name"),
        ({"size": "3"}, "`size` of `a`"),
        ({"size": True}, "`size` of `a`"),
        ({"size": None}, "`size` of `a`"),
        ({"size": -1}, "Not a SHA-256 digest"),
        ({"sha256": "abc"}, "Not a SHA-256 digest"),
        ({"source": ""}, "`source` is missing"),
        ({"path": "/etc/passwd"}, "`path` of `a` leads out"),
        ({"path": "pool/../../a"}, "`path` of `a` leads out"),
        ({"path": 3}, "`path` is missing or not text"),
    ],
)
def test_refuses_an_entry_that_cannot_be(change: dict[str, object], fault: str) -> None:
    with pytest.raises(LockError, match=fault):
        parse({**TABLE, "package": [{**ENTRY, **change}]})


def test_a_request_says_what_its_lock_must_have_been_asked() -> None:
    request = LockRequest("x", "deb", "amd64", ("b", "a"), exclude=("c",))

    assert request.requested == ("-c", "a", "b")
