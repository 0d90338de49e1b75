"""Locks of Python packages, resolved by uv out of indexes on this machine."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.lock import Lock, MissingMaterial
from forge.core.lock_text import parse, render
from forge.packages.lock_python import PythonRequest, lock_python
from forge.packages.sources import Sources
from forge.packages.target_python import PythonTarget, best_wheel
from forge.packages.upgrade import Upgrade
from tests.net.test_download import Site, open_site

ANY, X86, ARM = "py3-none-any", "cp311-cp311-manylinux_2_28_x86_64", "cp311-cp311-manylinux_2_28_aarch64"
ARM64 = PythonTarget("arm64")


def wheel(name: str, version: str, tag: str, *requires: str, stub: bool = False) -> bytes:
    """Make the smallest wheel that uv reads."""
    folder = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {each}\n" for each in requires
    )
    members = {"METADATA": metadata, "WHEEL": f"Wheel-Version: 1.0\nTag: {tag}\n", "RECORD": ""}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, text in members.items():
            archive.writestr(zipfile.ZipInfo(f"{folder}/{member}"), text)
        if not stub:
            archive.writestr(zipfile.ZipInfo(f"{name}.py"), "")
    return buffer.getvalue()


class Index:
    """A package index on a site, and a folder of find-links."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.folder = site, folder
        self.links = folder / "links"
        self.links.mkdir()
        self._pages: dict[str, list[dict[str, object]]] = {}

    def add(
        self,
        name: str,
        version: str,
        tag: str = ANY,
        *requires: str,
        at: str = "simple",
        yanked: bool = False,
        size: bool = True,
    ) -> bytes:
        data = wheel(name, version, tag, *requires)
        self.offer(f"{name}-{version}-{tag}.whl", data, at=at, yanked=yanked, size=size)
        return data

    def offer(self, file: str, data: bytes, *, at: str = "simple", yanked: bool = False, size: bool = True) -> None:
        entry: dict[str, object] = {"filename": file, "url": f"/files/{file}", "yanked": yanked}
        entry["hashes"] = {"sha256": hashlib.sha256(data).hexdigest()}
        if size:
            entry["size"] = len(data)
        path = f"/{at}/{file.split('-')[0]}/"
        self._pages.setdefault(path, []).append(entry)
        self.site.files[f"/files/{file}"] = data
        document = {"meta": {"api-version": "1.1"}, "name": file.split("-")[0], "files": self._pages[path]}
        self.site.files[path] = json.dumps(document).encode()
        self.site.types[path] = "application/vnd.pypi.simple.v1+json"

    def forget(self, name: str, *, at: str = "simple") -> None:
        """Take a package off the index."""
        del self._pages[f"/{at}/{name}/"]

    def forget_cache(self) -> None:
        """Make uv ask again, which it would not do so soon."""
        shutil.rmtree(self.folder / "cache", ignore_errors=True)

    def link(self, name: str, version: str, tag: str = ANY, *requires: str) -> bytes:
        data = wheel(name, version, tag, *requires)
        (self.links / f"{name}-{version}-{tag}.whl").write_bytes(data)
        return data

    def sources(self, table: Mapping[str, str | Sequence[str]] | None = None, **environ: str) -> Sources:
        base = {
            "HOME": str(self.folder),
            "PATH": os.defpath,
            "UV_CACHE_DIR": str(self.folder / "cache"),
            "PIP_INDEX_URL": f"{self.site.address}/simple",
            "PIP_FIND_LINKS": str(self.links),
        }
        return Sources.read(table or {}, base | environ, etc=self.folder / "etc")

    def lock(self, *requirements: str, target: PythonTarget | None = None, previous: Lock | None = None) -> Lock:
        request = PythonRequest(requirements, target or PythonTarget())
        return lock_python(request, self.sources(), previous=previous)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with open_site() as site:
        yield Index(site, tmp_path)


def versions(lock: Lock) -> dict[str, str]:
    return {each.name: each.version for each in lock.materials}


def test_a_lock_holds_one_wheel_per_package_and_no_address(index: Index) -> None:
    data = index.add("app", "1.0", ANY, "lib>=2")
    for tag in (X86, ARM, "cp311-cp311-win_amd64", "cp312-cp312-manylinux_2_28_x86_64"):
        index.add("lib", "2.1", tag)
    lock = index.lock("app")
    text = render(lock)

    assert [each.file for each in lock.materials] == ["app-1.0-py3-none-any.whl", f"lib-2.1-{X86}.whl"]
    assert (lock.kind, lock.arch, lock.requested) == ("python", "amd64", ("app",))
    assert lock.materials[0].digest == Digest.of(data)
    assert {each.source for each in lock.materials} == {"pypi"}
    assert "127.0.0.1" not in text
    assert str(index.folder) not in text
    assert parse(tomllib.loads(text)) == lock
    assert render(index.lock("app")) == text


def test_another_architecture_gets_its_own_wheels(index: Index) -> None:
    index.add("lib", "2.1", X86)
    index.add("lib", "2.1", ARM)
    index.add("app", "1", ANY, "lib; platform_machine == 'aarch64'")

    assert [each.file for each in index.lock("app", target=ARM64).materials][1] == f"lib-2.1-{ARM}.whl"
    assert list(versions(index.lock("app"))) == ["app"]


def test_a_size_that_the_index_does_not_say_is_asked_for(index: Index) -> None:
    data = index.add("app", "1.0", size=False)

    assert index.lock("app").materials[0].digest == Digest.of(data)
    assert ("HEAD", "/files/app-1.0-py3-none-any.whl") in [(method, path) for method, path, _ in index.site.log]


def test_a_wheel_of_find_links_is_locked_under_its_package_source(index: Index) -> None:
    data = index.link("torch", "2.13.0+cpu", X86, "lib")
    index.add("torch", "2.13.0", X86, "cuda")
    index.add("lib", "1")
    lock = index.lock("torch==2.13.0+cpu")
    torch = lock.materials[1]

    assert (torch.version, torch.source, torch.digest) == ("2.13.0+cpu", "pytorch-cpu", Digest.of(data))
    assert versions(lock) == {"lib": "1", "torch": "2.13.0+cpu"}
    assert str(index.links) not in render(lock)


def test_a_pinned_package_comes_from_its_own_index_and_nothing_else_does(index: Index) -> None:
    index.add("torch", "2.13.0+cpu", X86, "lib", at="cpu")
    index.add("lib", "9", at="cpu")
    index.add("lib", "1")
    sources = index.sources({"pytorch-cpu": f"{index.site.address}/cpu"})
    lock = lock_python(PythonRequest(("torch==2.13.0+cpu",)), sources)

    assert versions(lock) == {"lib": "1", "torch": "2.13.0+cpu"}
    assert [each.source for each in lock.materials] == ["pypi", "pytorch-cpu"]


@pytest.mark.parametrize("mirror", ["1", "3"])
def test_the_newest_version_of_all_configured_indexes_is_taken(index: Index, mirror: str) -> None:
    index.add("app", "2")
    index.add("app", mirror, at="mirror")
    sources = index.sources(PIP_EXTRA_INDEX_URL=f"{index.site.address}/mirror")

    assert versions(lock_python(PythonRequest(("app",)), sources)) == {"app": max("2", mirror)}


@pytest.mark.parametrize("asked", [("app", "lib"), ("app",)], ids=["named", "not named"])
def test_a_package_with_a_source_comes_from_there_alone(index: Index, asked: tuple[str, ...]) -> None:
    index.add("app", "1", ANY, "lib")
    index.add("lib", "9")
    index.link("lib", "8")
    index.add("lib", "1", at="private")
    index.add("app", "9", at="private")
    sources = index.sources({"mine": f"{index.site.address}/private"})
    request = PythonRequest(asked, sources={"Lib": "mine"})
    lock = lock_python(request, sources)

    assert versions(lock) == {"app": "1", "lib": "1"}
    assert [each.source for each in lock.materials] == ["pypi", "mine"]
    assert lock.requested == request.requested == tuple(sorted(["Lib from mine", *asked]))


def test_a_source_may_be_a_folder_of_wheels(index: Index, tmp_path: Path) -> None:
    index.add("lib", "9")
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / f"lib-1-{ANY}.whl").write_bytes(wheel("lib", "1", ANY))
    lock = lock_python(PythonRequest((), sources={"lib": "mine"}), index.sources({"mine": str(folder)}))

    assert versions(lock) == {"lib": "1"}
    assert str(tmp_path) not in render(lock)


def test_the_second_address_of_a_source_serves_where_the_first_has_nothing(index: Index) -> None:
    index.add("lib", "1", at="private")
    sources = index.sources({"mine": [f"{index.site.address}/gone", f"{index.site.address}/private"]})

    assert versions(lock_python(PythonRequest(("lib",), sources={"lib": "mine"}), sources)) == {"lib": "1"}


def test_an_excluded_package_is_cut_with_what_only_it_requires(index: Index) -> None:
    index.add("app", "1", ANY, "vision", "lib")
    index.add("vision", "1", ANY, "codec")
    index.add("codec", "1")
    index.add("lib", "1")
    request = PythonRequest(("app",), exclude=("Vision",))
    lock = lock_python(request, index.sources())

    assert versions(lock) == {"app": "1", "lib": "1"}
    assert lock.requested == request.requested == ("-Vision", "app")


def test_what_is_asked_for_cannot_be_excluded(index: Index) -> None:
    with pytest.raises(MaterialError, match=r"both asked for and excluded: \[my-lib\]"):
        lock_python(PythonRequest(("my_lib>=1",), exclude=("My.Lib",)), index.sources())


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (None, "it has no address"),
        ("/gone", "HTTP 404 Not Found"),
        ("/other", "has no wheel of it for Python 3.11 on amd64 with glibc 2.36"),
        ("http://127.0.0.1:1", "Cannot connect"),
    ],
    ids=["no address", "unknown there", "no wheel that fits", "no connection"],
)
def test_what_a_source_does_not_give_is_left_out_and_recorded(index: Index, address: str | None, reason: str) -> None:
    index.add("app", "1", ANY, "lib")
    index.add("lib", "2")
    index.add("lib", "1", at="other")
    index.add("lib", "2", ARM, at="other")
    where = address and (address if "://" in address else index.site.address + address)
    sources = index.sources({"mine": where} if where else {})
    warnings: list[str] = []
    lock = lock_python(PythonRequest(("app", "lib==2"), sources={"lib": "mine"}), sources, warn=warnings.append)

    assert versions(lock) == {"app": "1"}
    assert lock.missing == (MissingMaterial("lib", "lib==2", "mine"),)
    assert parse(tomllib.loads(render(lock))) == lock
    assert "`lib==2` of source `mine` cannot be had here and is left out" in warnings[0]
    assert reason in warnings[0]
    assert "Set `mine = " in warnings[0]


def test_what_was_missing_is_looked_for_again(index: Index) -> None:
    index.add("app", "1", ANY, "lib")
    sources = index.sources({"mine": f"{index.site.address}/private"})
    request = PythonRequest(("app",), sources={"lib": "mine"})
    partial = lock_python(request, sources)
    again = lock_python(request, sources, previous=partial)
    index.add("lib", "1", at="private")
    whole = lock_python(request, sources, previous=partial)

    assert render(again) == render(partial)
    assert (versions(whole), whole.missing) == ({"app": "1", "lib": "1"}, ())


def test_a_lock_does_not_lose_what_only_another_network_has(index: Index) -> None:
    index.add("app", "1")
    index.add("lib", "1", at="private")
    request = PythonRequest(("app",), sources={"lib": "mine"})
    whole = lock_python(request, index.sources({"mine": f"{index.site.address}/private"}))
    elsewhere = index.sources({"mine": f"{index.site.address}/gone"})
    with pytest.raises(MaterialError, match="`lib` 1 is locked, and its source does not answer here"):
        lock_python(request, elsewhere, previous=whole, upgrade=Upgrade(everything=True))


def test_a_source_is_not_asked_for_what_another_machine_needs(index: Index) -> None:
    index.add("app", "1")
    lock = lock_python(
        PythonRequest(("app", "lib; platform_machine == 'aarch64'"), sources={"lib": "mine"}), index.sources()
    )

    assert (versions(lock), lock.missing) == ({"app": "1"}, ())


def test_links_alone_are_enough(index: Index) -> None:
    index.link("app", "1")
    sources = index.sources(PIP_NO_INDEX="1")

    warnings: list[str] = []

    assert versions(lock_python(PythonRequest(("app",)), sources, warn=warnings.append)) == {"app": "1"}
    assert warnings == []


def test_a_pinned_package_has_its_index_where_no_other_is(index: Index) -> None:
    index.link("lib", "1")
    index.add("torch", "1+cpu", X86, "lib", at="cpu")
    sources = index.sources({"pytorch-cpu": f"{index.site.address}/cpu"}, PIP_NO_INDEX="1")

    assert versions(lock_python(PythonRequest(("torch==1+cpu",)), sources)) == {"lib": "1", "torch": "1+cpu"}


def test_the_present_versions_are_kept_unless_they_do_not_fit(index: Index) -> None:
    index.add("app", "1", ANY, "lib")
    index.add("lib", "1")
    present = index.lock("app")
    index.add("lib", "2")
    index.forget_cache()

    assert index.lock("app", previous=present) == present
    assert versions(index.lock("app")) == {"app": "1", "lib": "2"}
    assert versions(index.lock("app", "lib>=2", previous=present)) == {"app": "1", "lib": "2"}


def test_constraints_bind_without_being_asked_for(index: Index) -> None:
    index.add("app", "1", ANY, "lib")
    index.add("lib", "1")
    index.add("lib", "2")
    index.add("other", "1")
    lock = lock_python(PythonRequest(("app",), constraints=("lib==1", "other==1")), index.sources())

    assert versions(lock) == {"app": "1", "lib": "1"}
    assert lock.requested == ("app",)


def test_a_yanked_version_is_told_of(index: Index) -> None:
    index.add("app", "1", yanked=True)
    warnings: list[str] = []
    lock_python(PythonRequest(("app==1",)), index.sources(), warn=warnings.append)

    assert len(warnings) == 1
    assert "yanked" in warnings[0]


def test_a_version_that_is_yanked_after_it_was_locked_is_kept_and_told_of(index: Index) -> None:
    index.add("app", "1")
    present = index.lock("app")
    index.forget("app")
    index.add("app", "1", yanked=True)
    index.add("app", "0.9")
    index.forget_cache()
    warnings: list[str] = []
    request = PythonRequest(("app",))

    assert lock_python(request, index.sources(), previous=present, warn=warnings.append) == present
    assert warnings == ["`app==1` is yanked"]
    assert versions(lock_python(request, index.sources())) == {"app": "0.9"}


@pytest.mark.parametrize("asked", ["app", "top"], ids=["asked for", "required"])
def test_a_source_distribution_is_refused(index: Index, asked: str) -> None:
    index.offer("app-1.tar.gz", b"no wheel")
    index.add("top", "1", ANY, "app")
    with pytest.raises(MaterialError, match=rf"Cannot resolve \[{asked}\] for Python 3.11 on amd64") as caught:
        index.lock(asked)

    assert "is built by a `wheel` target" in caught.value.faults[0].hint


def test_a_stub_is_refused(index: Index) -> None:
    index.offer(f"app-1-{ANY}.whl", wheel("app", "1", ANY, stub=True))
    with pytest.raises(MaterialError, match="is a stub: it has nothing but its name") as caught:
        index.lock("app")

    assert "`sources`" in caught.value.faults[0].hint


def test_a_package_of_packages_is_none(index: Index) -> None:
    index.offer(f"app-1-{ANY}.whl", wheel("app", "1", ANY, "lib", stub=True))
    index.add("lib", "1")

    assert versions(index.lock("app")) == {"app": "1", "lib": "1"}


def test_what_is_no_requirement_is_refused(index: Index) -> None:
    with pytest.raises(MaterialError, match="`app ==` is no requirement"):
        index.lock("app ==")


def test_settings_of_uv_do_not_reach_it(index: Index) -> None:
    index.add("app", "1")
    config = index.folder / ".config/uv/uv.toml"
    config.parent.mkdir(parents=True)
    config.write_text('exclude-newer = "2000-01-01"\nindex-url = "http://127.0.0.1:1"\n')

    assert versions(lock_python(PythonRequest(("app",)), index.sources(UV_NO_INDEX="1", UV_OFFLINE="1"))) == {
        "app": "1"
    }


def test_a_placeholder_is_refused(index: Index) -> None:
    index.add("app", "0.0.0a0")
    with pytest.raises(MaterialError, match=r"`app` 0\.0\.0a0 is a placeholder"):
        index.lock("app==0.0.0a0")


def test_what_cannot_be_resolved_is_told_without_credentials(index: Index) -> None:
    index.add("app", "1", ANY, "lib>=2")
    index.add("lib", "1")
    address = index.site.address.replace("//", "//me:secret@")
    sources = index.sources(PIP_INDEX_URL=f"{address}/simple")
    with pytest.raises(MaterialError, match="lib") as caught:
        lock_python(PythonRequest(("app",)), sources)

    assert "secret" not in str(caught.value)


def test_credentials_reach_neither_a_lock_nor_a_warning(index: Index) -> None:
    index.add("app", "1")
    index.add("lib", "1", at="private")
    me = index.site.address.replace("//", "//me:secret@")
    links = f"{me}/links?token=secret"
    index.site.files["/links?token=secret"] = b"<a></a>"
    environ = {"PIP_INDEX_URL": f"{me}/simple", "PIP_EXTRA_INDEX_URL": f"{me}/more", "PIP_FIND_LINKS": links}
    warnings: list[str] = []
    sources = index.sources({"mine": f"{me}/private", "gone": f"{me}/gone"}, **environ)
    request = PythonRequest(("app",), sources={"lib": "mine", "other": "gone"})
    lock = lock_python(request, sources, warn=warnings.append)

    assert versions(lock) == {"app": "1", "lib": "1"}
    assert "secret" not in render(lock) + "".join(warnings)
    assert all("authorization" in headers for headers in index.site.asked("/private/lib/"))


def test_netrc_opens_an_index(index: Index) -> None:
    index.add("app", "1")
    index.add("lib", "1", at="private")
    (index.folder / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    sources = index.sources({"mine": f"{index.site.address}/private"})
    lock = lock_python(PythonRequest(("app",), sources={"lib": "mine"}), sources)
    expected = "Basic " + base64.b64encode(b"me:secret").decode()

    assert index.site.asked("/private/lib/")[0].get("authorization") == expected
    assert "secret" not in render(lock)


FILES = [
    "x-1-cp311-cp311-manylinux_2_28_x86_64.whl",
    "x-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "x-1-cp311-cp311-manylinux_2_39_x86_64.whl",
    "x-1-cp311-cp311-manylinux_2_28_aarch64.whl",
    "x-1-cp311-cp311-musllinux_1_2_x86_64.whl",
    "x-1-cp39-abi3-manylinux1_x86_64.whl",
    "x-1-py3-none-any.whl",
    "x-1-1-py3-none-any.whl",
    "x-1-cp313-cp313t-manylinux_2_28_x86_64.whl",
    "no wheel at all",
]


@pytest.mark.parametrize(
    ("target", "left_out", "best"),
    [
        (PythonTarget(), (), 0),
        (PythonTarget(), (0,), 1),
        (PythonTarget(), (0, 1), 5),
        (PythonTarget(), (0, 1, 5), 7),
        (PythonTarget(), (0, 1, 5, 7), 6),
        (PythonTarget(glibc=39), (), 2),
        (PythonTarget(glibc=17), (), 1),
        (PythonTarget(python="3.10"), (), 5),
        (ARM64, (), 3),
        (ARM64, (3,), 7),
    ],
)
def test_the_best_wheel_is_the_targets(target: PythonTarget, left_out: tuple[int, ...], best: int) -> None:
    offered = [each for number, each in enumerate(FILES) if number not in left_out]

    assert best_wheel(offered, target) == best_wheel(offered[::-1], target) == FILES[best]


def test_no_wheel_may_fit() -> None:
    assert best_wheel(FILES[:3], ARM64) is None


@pytest.mark.parametrize(("glibc", "platform"), [(36, 36), (29, 28), (17, 17), (12, 17), (50, 40)])
def test_uv_is_told_the_nearest_platform_that_it_knows(glibc: int, platform: int) -> None:
    assert replace(ARM64, glibc=glibc).uv_platform == f"aarch64-manylinux_2_{platform}"
