from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.core.digest import EMPTY, Digest, Hash, Pin
from forge.core.lock import Lock, LockRequest, Material, MissingMaterial
from forge.core.lock_text import LockError, parse, render
from forge.core.model_source import HubSource, ModelRequest

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
    kind=st.sampled_from(["deb", "python", "sdist"]),
    arch=st.sampled_from(["amd64", "arm64"]),
    requested=st.lists(TEXTS, max_size=3).map(lambda texts: tuple(sorted(texts))),
    materials=st.lists(MATERIALS, max_size=3).map(
        lambda found: tuple(sorted(found, key=lambda each: (each.name, each.version, each.file)))
    ),
    released=st.dictionaries(TEXTS, TEXTS, max_size=2).map(lambda found: tuple(sorted(found.items()))),
    missing=st.lists(st.builds(MissingMaterial, TEXTS, TEXTS, TEXTS), max_size=2).map(
        lambda found: tuple(sorted(found, key=lambda each: (each.name, each.requirement)))
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


def test_a_lock_answers_the_request_that_it_was_made_for() -> None:
    request = LockRequest("x", "python", "amd64", ("b", "a", "b"), ("c",), sources=(("b", "there"),))
    made = Lock("python", "amd64", ("-c", "a", "b", "b from there"), ())

    assert request.requested == made.requested
    assert request.is_answered_by(made)
    assert not request.is_answered_by(None)
    assert not LockRequest("x", "python", "arm64", ("a", "b"), ("c",), sources=(("b", "there"),)).is_answered_by(made)
    assert not LockRequest("x", "python", "amd64", ("a", "b"), ("c",)).is_answered_by(made)


def test_what_is_missing_stands_at_the_end_without_a_digest() -> None:
    lock = Lock("python", "arm64", ("torch==2",), (), missing=(MissingMaterial("torch", "torch==2", "far"),))

    assert render(lock).splitlines()[-5:] == [
        "", "[[missing]]", 'name = "torch"', 'requirement = "torch==2"', 'source = "far"',
    ]  # fmt: skip


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


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"released": ["bookworm"]}, "`released` must be a table of texts"),
        ({"released": {"bookworm": 3}}, "`released` must be a table of texts"),
        ({"missing": {"name": "a"}}, "`missing` must be a list of tables"),
        ({"missing": [{"name": "a", "requirement": "a==1"}]}, "`source` is missing"),
    ],
)
def test_refuses_what_it_cannot_read_beside_the_entries(change: dict[str, object], fault: str) -> None:
    with pytest.raises(LockError, match=fault):
        parse({**TABLE, **change})


def test_a_suites_date_stands_before_the_packages() -> None:
    lock = Lock("deb", "amd64", ("a",), (), released=(("bookworm", "2026-05-16T09:00:00Z"),))

    assert render(lock).splitlines()[-1] == 'released = { "bookworm" = "2026-05-16T09:00:00Z" }'


def test_a_request_says_what_its_lock_must_have_been_asked() -> None:
    request = LockRequest("x", "deb", "amd64", ("b", "a"), exclude=("c",))

    assert request.requested == ("-c", "a", "b")


COMMIT = "0123456789" * 4
MODEL_ENTRY: dict[str, object] = {"path": "sub/a.json", "sha256": EMPTY.hash, "size": 0}
MODEL: dict[str, object] = {
    "version": 1, "kind": "model", "source": "hf", "repository": "a/b", "revision": COMMIT, "requested": ["hf:a/b"],
    "file": [MODEL_ENTRY],
}  # fmt: skip


def test_a_models_lock_is_what_a_person_can_review() -> None:
    files: list[tuple[str, Pin]] = [("sub/a.json", EMPTY), ("model.safetensors", Hash(EMPTY.hash))]
    materials = tuple(
        Material("a/b", COMMIT, name, pin, "hf", f"a/b/resolve/{COMMIT}/{name}") for name, pin in reversed(files)
    )
    lock = Lock("model", "all", ("hf:a/b", "revision main"), materials, "a/b", COMMIT)

    assert render(lock).splitlines() == [
        "# Written by `forge lock`; do not edit.",
        "version = 1",
        'kind = "model"',
        'source = "hf"',
        'repository = "a/b"',
        f'revision = "{COMMIT}"',
        "requested = [",
        '    "hf:a/b",',
        '    "revision main",',
        "]",
        "",
        "[[file]]",
        'path = "model.safetensors"',
        f'sha256 = "{EMPTY.hash}"',
        "",
        "[[file]]",
        'path = "sub/a.json"',
        f'sha256 = "{EMPTY.hash}"',
        "size = 0",
    ]
    assert parse(tomllib.loads(render(lock))) == lock


def test_a_lock_of_addresses_has_no_repository_and_no_address() -> None:
    lock = Lock("model", "all", ("m.gguf@0",), (Material("m.gguf", "", "m.gguf", EMPTY, "https"),))

    assert 'source = "https"\nrequested' in render(lock)
    assert parse(tomllib.loads(render(lock))) == lock


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"revision": "main"}, "`a/b` at `main` is no repository at a commit of 40 hexadecimal digits"),
        ({"repository": "../b"}, f"`../b` at `{COMMIT}` is no repository"),
        ({"source": ""}, "`source` is missing"),
        ({"file": "x"}, "`file` must be a list of tables"),
        ({"file": ["x"]}, "`file` must be a list of tables"),
        ({"file": []}, "names no `file`"),
        ({"file": [MODEL_ENTRY, MODEL_ENTRY]}, "`sub/a.json` is there twice"),
        ({"file": [MODEL_ENTRY | {"path": "../x"}]}, "`../x` is no path in a model"),
        ({"file": [MODEL_ENTRY | {"path": "/x"}]}, "`/x` is no path in a model"),
        ({"file": [MODEL_ENTRY | {"path": "a//x"}]}, "`a//x` is no path in a model"),
        ({"file": [MODEL_ENTRY | {"size": "1"}]}, "`size` of `sub/a.json` must be a number"),
        ({"file": [MODEL_ENTRY | {"sha256": "0"}]}, "(`sub/a.json`)"),
        ({"file": [{"path": "x", "sha256": "0"}]}, "Not a SHA-256 digest: `0` (`x`)"),
        ({"file": [{"path": "x"}]}, "`sha256` is missing"),
    ],
)
def test_a_models_lock_that_cannot_be_believed_is_refused(change: dict[str, object], fault: str) -> None:
    with pytest.raises(LockError) as caught:
        parse(MODEL | change)

    assert fault in str(caught.value)


def test_a_models_lock_lies_beside_the_declaration_and_others_in_a_folder() -> None:
    model = LockRequest("weights", "model", "all", model=ModelRequest(HubSource("a/b"), "main"))

    assert (model.file, model.requested) == ("weights.lock.toml", ("hf:a/b", "revision main"))
    assert LockRequest("x.amd64.deb", "deb", "amd64", ("x",)).file == "locks/x.amd64.deb.toml"


def test_what_own_packages_rest_on_is_in_their_lock() -> None:
    lock = Lock("python", "amd64", ("greet",), (), beside=("a==1", "b==2"))

    assert parse(tomllib.loads(render(lock))) == lock


def test_refuses_what_nothing_can_rest_on() -> None:
    with pytest.raises(LockError, match="`beside` must be a list of `name==version`"):
        parse({**TABLE, "beside": ["a"]})
