"""`forge lock` in a workspace, against an index on this machine."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge.cli.locking import Options, Wanted, check, find_wanted, update
from forge.cli.session import Session
from forge.core.digest import Digest
from forge.core.errors import MaterialError, UserError
from forge.core.lock import Lock
from forge.core.lock_text import render
from forge.packages.lock_python import PythonRequest, lock_python
from forge.packages.target_python import PythonTarget
from forge.packages.upgrade import NOTHING, Upgrade
from tests.net.test_download import open_site
from tests.packages.test_lock_python import ANY, Index, wheel

BUILD = """
[one]
rule = "environment"
platforms = ["amd64"]
wheels = ["app"]

[two]
rule = "environment"
platforms = ["amd64"]
wheels = ["lib"]
"""
ROOT = Path(__file__).parents[2]
ALL = Upgrade(everything=True)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with open_site() as site:
        made = Index(site, tmp_path)
        made.add("app", "1", ANY, "lib")
        made.add("lib", "1")
        yield made


class Place:
    """A workspace whose packages come from an index."""

    def __init__(self, root: Path, index: Index, build: str = BUILD) -> None:
        self.root, self.index = root, index
        (root / "targets/a").mkdir(parents=True)
        (root / "WORKSPACE.toml").write_text('[workspace]\nname = "w"\n')
        self.build(build)

    def build(self, text: str) -> None:
        (self.root / "targets/a/BUILD.toml").write_text(text)

    def wanted(self, *patterns: str) -> tuple[Session, tuple[Wanted, ...]]:
        environ = {**self.index.sources().environ, "FORGE_HOME": str(self.root / "home")}
        session = Session(self.root, environ)
        return session, find_wanted(session, patterns or ["//a:all"])

    def update(self, *patterns: str, upgrade: Upgrade = NOTHING, dry_run: bool = False) -> None:
        session, wanted = self.wanted(*patterns)
        update(session, wanted, Options(upgrade, dry_run=dry_run))

    def versions(self, name: str) -> dict[str, str]:
        table = tomllib.loads(self.file(name).read_text())
        return {each["name"]: each["version"] for each in table["package"]}

    def file(self, name: str) -> Path:
        return self.root / f"targets/a/locks/{name}.amd64.python.toml"

    def state(self) -> dict[str, tuple[bytes, int]]:
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in self.root.glob("targets/a/locks/*")}


@pytest.fixture
def place(tmp_path: Path, index: Index) -> Place:
    return Place(tmp_path / "w", index)


def test_a_second_run_changes_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.update()
    before = place.state()
    place.index.add("lib", "2")
    capsys.readouterr()
    place.update()

    assert place.state() == before
    assert capsys.readouterr().out == ""
    assert sorted(before) == ["one.amd64.python.toml", "two.amd64.python.toml"]


def test_an_upgrade_shows_what_changes(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.update()
    place.index.add("app", "2", ANY, "other")
    place.index.add("other", "1")
    place.index.add("lib", "2")
    capsys.readouterr()
    place.update(upgrade=ALL)

    assert capsys.readouterr().out.splitlines() == [
        "  changed app: 1 -> 2", "  removed lib 1", "  added other 1", "  changed lib: 1 -> 2",
    ]  # fmt: skip
    assert place.versions("one") == {"app": "2", "other": "1"}


def test_a_dry_run_shows_it_and_writes_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.update(dry_run=True)
    assert capsys.readouterr().out.splitlines() == ["  added app 1", "  added lib 1", "  added lib 1"]
    assert place.state() == {}

    place.update()
    before = place.state()
    place.index.add("lib", "2")
    capsys.readouterr()
    place.update(upgrade=ALL, dry_run=True)
    assert capsys.readouterr().out.splitlines() == ["  changed lib: 1 -> 2", "  changed lib: 1 -> 2"]
    assert place.state() == before


def test_one_package_is_upgraded_wherever_it_is_locked(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.update()
    place.index.add("lib", "2")
    place.index.add("app", "2")
    place.update(upgrade=Upgrade(packages=frozenset(("Lib",))))
    assert place.versions("one") == {"app": "1", "lib": "2"}
    assert place.versions("two") == {"lib": "2"}

    place.update(upgrade=Upgrade(packages=frozenset(("app",))))
    assert place.versions("one") == {"app": "2"}
    assert "two.amd64.python.toml: up to date" in capsys.readouterr().err


def test_a_package_that_no_lock_has_is_an_error(place: Place) -> None:
    place.update()
    with pytest.raises(UserError, match="No lock has a package `lbi`"):
        place.update(upgrade=Upgrade(packages=frozenset(("lbi", "lib"))))


def test_one_that_fails_does_not_keep_the_others_from_it(place: Place) -> None:
    place.build(BUILD.replace('"app"', '"nowhere"'))
    with pytest.raises(MaterialError, match=r"one\.amd64\.python\.toml: Cannot resolve \[nowhere\]"):
        place.update()

    assert sorted(place.state()) == ["two.amd64.python.toml"]


def test_a_file_that_was_replaced_upstream_is_refused_until_it_is_upgraded(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.update()
    place.index.site.files.pop("/simple/lib/")
    place.index.forget("lib")
    place.index.offer(f"lib-1-{ANY}.whl", wheel("lib", "1", ANY, "app"))
    place.build(BUILD.replace('"lib"', '"lib", "app"'))
    place.index.forget_cache()
    with pytest.raises(MaterialError, match=rf"`lib-1-{ANY}.whl` was replaced: locked is sha256") as caught:
        place.update("//a:two")

    assert caught.value.faults[0].hint == "If that is right: `forge lock --upgrade-package lib`"
    capsys.readouterr()
    place.update("//a:two", upgrade=Upgrade(packages=frozenset(("lib",))))
    assert "  REPLACED lib 1: other bytes under the same version, sha256" in capsys.readouterr().out


def test_check_reads_files_alone_and_lists_what_is_missing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.build(BUILD.replace('["lib"]', '["lib"]\nsources = { far = "elsewhere" }'))
    with pytest.raises(UserError, match=r"Stale or missing: \[targets/a/locks/one.*, targets/a/locks/two"):
        check(place.wanted()[1])
    place.update()
    asked = len(place.index.site.log)
    capsys.readouterr()
    check(place.wanted()[1])

    assert len(place.index.site.log) == asked
    assert capsys.readouterr().err == (
        "warning: targets/a/locks/two.amd64.python.toml lacks `far` of source `elsewhere`\n"
    )


def test_what_was_missing_is_tried_again_and_written_alike(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.build(BUILD.replace('["lib"]', '["lib"]\nsources = { far = "elsewhere" }'))
    place.update()
    before = place.state()
    capsys.readouterr()
    place.update()
    said = capsys.readouterr()

    assert place.state() == before
    assert said.out == ""
    assert "two.amd64.python.toml: 1 packages, 0.0 MB, 1 missing: nothing changed" in said.err


@pytest.mark.parametrize("seed", range(4))
def test_newer_versions_change_nothing_unless_upgraded(index: Index, seed: int) -> None:
    """A made-up index of twenty packages in two places; every version gets a newer one after the first lock."""
    names = [f"p{number}" for number in range(20)]
    for number, name in enumerate(names):
        needs = [each for each in names[number + 1 :] if hash_of(seed, name, each) % 5 == 0]
        for version in ("1.0", "1.1"):
            index.add(name, version, ANY, *needs, at=("simple", "more")[hash_of(seed, name, version) % 2])
    sources = index.sources(PIP_EXTRA_INDEX_URL=f"{index.site.address}/more")
    request = PythonRequest(tuple(names[:3]))
    first = lock_python(request, sources)
    for name in names:
        index.add(name, "2.0", at=("simple", "more")[hash_of(seed, name) % 2])
    index.forget_cache()

    assert render(lock_python(request, sources, previous=first)) == render(first)
    assert {each.version for each in lock_python(request, sources, previous=first, upgrade=ALL).materials} == {"2.0"}


def hash_of(*parts: object) -> int:
    import zlib

    return zlib.crc32(repr(parts).encode())


BUILT_IN = sorted(path for path in ROOT.glob("toolchains/locks/*.python.toml"))


def test_the_built_in_locks_come_out_again_byte_for_byte(index: Index) -> None:
    """Against an index that offers what they name, with made-up dependencies, and newer versions beside it."""
    environ = {"HOME": str(index.folder), "FORGE_HOME": str(index.folder / "home")}
    wanted = [
        each for each in find_wanted(Session(ROOT, environ), ["//toolchains:all"]) if each.request.kind == "python"
    ]
    assert [each.path for each in wanted] == BUILT_IN
    for each in wanted:
        lock = each.previous
        assert lock is not None
        at = each.path.name.split(".")[0]
        offer(index, at, lock)
        sources = index.sources(
            {"pytorch-cpu": f"{index.site.address}/{at}"}, PIP_INDEX_URL=f"{index.site.address}/{at}"
        )
        target = PythonTarget("arm64" if lock.arch == "arm64" else "amd64", each.request.python)
        request = PythonRequest(
            each.request.requirements, target, exclude=each.request.exclude, sources=dict(each.request.sources)
        )
        made = lock_python(request, sources, previous=lock)

        assert render(made) == each.path.read_text()
    assert os.listdir(index.links) == []


def offer(index: Index, at: str, lock: Lock) -> None:
    """Put the files of a lock into an index, each with metadata of its own (PEP 658), and a newer version of each."""
    rest = [each.name for each in lock.materials]
    first = next(each.name for each in lock.materials if each.name in lock.requested)
    for each in lock.materials:
        assert isinstance(each.digest, Digest)
        needs = "".join(f"Requires-Dist: {name}\n" for name in rest if name != first) if each.name == first else ""
        entries: list[dict[str, object]] = []
        for version, file in ((each.version, each.file), ("9999", f"{each.name.replace('-', '_')}-9999-{ANY}.whl")):
            metadata = f"Metadata-Version: 2.1\nName: {each.name}\nVersion: {version}\n{needs}".encode()
            index.site.files[f"/{at}/{file}.metadata"] = metadata
            entries.append({"filename": file, "url": f"/{at}/{file}", "core-metadata": True, "size": each.digest.size})
            entries[-1]["hashes"] = {"sha256": each.digest.hash}
        page = f"/{at}/{each.name}/"
        document = {"meta": {"api-version": "1.1"}, "name": each.name, "files": entries}
        index.site.files[page] = json.dumps(document).encode()
        index.site.types[page] = "application/vnd.pypi.simple.v1+json"
