"""Fetching materials from every kind of place."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from forge.core.digest import Digest, Hash
from forge.core.errors import MaterialError
from forge.core.lock import Material
from forge.net.connection import Connection
from forge.net.download import Downloader
from forge.packages.fetch import Fetcher
from forge.packages.sources import Sources
from tests.fakes.store import MemoryStore
from tests.net.test_download import Site, open_site, ranged, shared_client, status

DATA = b"a wheel" * 1000
NAME = "My.Thing"
FILE = "my_thing-1.0+cpu-py3-none-any.whl"
WHEEL = Material("my-thing", "1.0+cpu", FILE, Digest.of(DATA), "pypi")
DEB = Material("x", "1:1+b1", "x_1+b1_amd64.deb", Digest.of(DATA), "debian", "pool/x/x_1+b1_amd64.deb", "stable")
JSON = "application/vnd.pypi.simple.v1+json"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    with open_site() as found:
        yield found


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def fetcher(
    store: MemoryStore,
    table: Mapping[str, str | Sequence[str]],
    *,
    offline: bool = False,
    jobs: int = 4,
    events: list[tuple[str, int, int]] | None = None,
) -> Fetcher:
    seen = [] if events is None else events
    nowhere = Path("/nonexistent")
    sources = Sources.read({"debian": [], **table}, {"PIP_NO_INDEX": "1"}, root=nowhere, etc=nowhere)
    downloader = Downloader(connection=Connection({}, client=shared_client()), sleep=lambda seconds: None, attempts=2)
    return Fetcher(
        sources,
        store,
        None,
        offline=offline,
        jobs=jobs,
        on_progress=lambda material, done, total: seen.append((material.file, done, total)),
        downloader=downloader,
    )


def json_index(site: Site, sha256: str = WHEEL.digest.hash) -> None:
    site.files[f"/files/{FILE}"] = DATA
    entry = {"filename": FILE, "url": f"../../files/{FILE}", "hashes": {"sha256": sha256}, "size": len(DATA)}
    site.files["/simple/my-thing/"] = json.dumps({"meta": {"api-version": "1.4"}, "files": [entry]}).encode()
    site.types["/simple/my-thing/"] = JSON


def html_index(site: Site, fragment: str = f"#sha256={WHEEL.digest.hash}", base: str = "") -> None:
    site.files[f"/files/{FILE}"] = DATA
    link = f'<a href="{"files" if base else "../../files"}/{FILE.replace("+", "%2B")}{fragment}">{FILE}</a>'
    head = f'<head><base href="{base}"></head>' if base else ""
    site.files["/simple/my-thing/"] = f"<!DOCTYPE html><html>{head}<body>{link}</body></html>".encode()
    site.files[f"/files/{FILE.replace('+', '%2B')}"] = DATA
    site.types["/simple/my-thing/"] = "text/html; charset=utf-8"


def test_a_json_index_leads_to_the_file(site: Site, store: MemoryStore) -> None:
    json_index(site)
    events: list[tuple[str, int, int]] = []
    found = fetcher(store, {"pypi": f"{site.address}/simple"}, events=events).fetch(WHEEL)

    assert found == WHEEL.digest
    assert store.read(found) == DATA
    assert JSON in site.asked("/simple/my-thing/")[0]["accept"]
    assert events[-1] == (FILE, len(DATA), len(DATA))


@pytest.mark.parametrize("fragment", [f"#sha256={WHEEL.digest.hash}", "", "#md5=0"], ids=["sha256", "none", "md5"])
def test_an_html_index_leads_to_the_file(site: Site, store: MemoryStore, fragment: str) -> None:
    html_index(site, fragment)
    fetcher(store, {"pypi": f"{site.address}/simple/"}).fetch(WHEEL)

    assert store.contains(WHEEL.digest)


def test_a_page_may_move_its_base(site: Site, store: MemoryStore) -> None:
    html_index(site, base="/")
    fetcher(store, {"pypi": f"{site.address}/simple"}).fetch(WHEEL)

    assert store.contains(WHEEL.digest)


def test_an_index_page_is_read_once(site: Site, store: MemoryStore) -> None:
    json_index(site)
    client = fetcher(store, {"pypi": f"{site.address}/simple"})
    client.fetch(WHEEL)
    store.blobs.clear()
    client.fetch(WHEEL)

    assert len(site.asked("/simple/my-thing/")) == 1
    assert len(site.asked(f"/files/{FILE}")) == 2


def test_what_the_store_has_is_not_asked_for(site: Site, store: MemoryStore) -> None:
    store.put(DATA)
    fetcher(store, {"pypi": site.address}).fetch(WHEEL)

    assert site.log == []


def test_a_folder_index_on_this_machine(tmp_path: Path, store: MemoryStore) -> None:
    (tmp_path / "simple/my-thing").mkdir(parents=True)
    (tmp_path / "simple/my-thing/index.html").write_text(f'<a href="../../{FILE}">x</a>')
    (tmp_path / FILE).write_bytes(DATA)
    fetcher(store, {"pypi": (tmp_path / "simple").as_uri()}).fetch(WHEEL)

    assert store.contains(WHEEL.digest)


@pytest.mark.parametrize("material", [WHEEL, DEB], ids=["wheel", "deb"])
def test_a_flat_folder_serves_any_material(tmp_path: Path, store: MemoryStore, material: Material) -> None:
    (tmp_path / material.file).write_bytes(DATA)
    fetcher(store, {"*": str(tmp_path)}).fetch(material)

    assert store.contains(material.digest)


@pytest.mark.parametrize("material", [WHEEL, DEB], ids=["wheel", "deb"])
def test_a_flat_web_folder_serves_any_material(site: Site, store: MemoryStore, material: Material) -> None:
    site.files[f"/vendor/{material.file}"] = DATA
    fetcher(store, {"*": f"{site.address}/vendor"}).fetch(material)

    assert store.contains(material.digest)


def test_a_page_of_links_serves_wheels(site: Site, store: MemoryStore, tmp_path: Path) -> None:
    site.files["/links"] = f'<a href="files/{FILE}">x</a>'.encode()
    site.files[f"/files/{FILE}"] = DATA
    sources = Sources.read({}, {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{site.address}/links"}, etc=tmp_path)
    Fetcher(sources, store, tmp_path / "partial").fetch(WHEEL)

    assert store.contains(WHEEL.digest)


def test_an_archive_serves_by_path(site: Site, store: MemoryStore) -> None:
    site.files["/debian/pool/x/x_1+b1_amd64.deb"] = DATA
    fetcher(store, {"debian": f"{site.address}/debian"}).fetch(DEB)

    assert store.contains(DEB.digest)


COMMIT = "0123456789" * 4
MODEL = Material("a/b", COMMIT, "sub/m.gguf", Digest.of(DATA), "hf", f"a/b/resolve/{COMMIT}/sub/m.gguf")
WEB = Material("m.gguf", "", "m.gguf", Digest.of(DATA), "https", "unknown")


def test_a_hub_is_asked_for_the_one_path(site: Site, store: MemoryStore) -> None:
    with pytest.raises(MaterialError, match="`sub/m.gguf` of `a/b` at 0123456789"):
        fetcher(store, {"hf": site.address}).fetch(MODEL)

    assert [path for _, path, _ in site.log] == [f"/{MODEL.path}"]


@pytest.mark.parametrize(
    "name",
    [MODEL.path, "a/b/sub/m.gguf", "sub/m.gguf", f"{MODEL.digest.hash}/sub/m.gguf"],
    ids=["as a hub", "by repository", "flat", "by hash"],
)
@pytest.mark.parametrize("source", ["hf", "*"])
def test_a_folder_may_have_a_hubs_file(tmp_path: Path, store: MemoryStore, source: str, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(DATA)
    fetcher(store, {"hf": [], source: str(tmp_path)}).fetch(MODEL)

    assert store.contains(MODEL.digest)


@pytest.mark.parametrize("name", ["m.gguf", f"{WEB.digest.hash}/m.gguf"])
def test_a_folder_may_have_what_an_address_named(tmp_path: Path, store: MemoryStore, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(DATA)
    fetcher(store, {"*": str(tmp_path)}, offline=True).fetch(WEB)

    assert store.contains(WEB.digest)


def test_an_address_is_asked_as_it_is_declared(site: Site, store: MemoryStore) -> None:
    site.files["/m.gguf?download=true"] = DATA
    fetcher(store, {}).fetch(replace(WEB, path=f"{site.address}/m.gguf?download=true"))

    assert store.contains(WEB.digest)


def test_a_package_that_left_its_archive_says_how_to_move_on(site: Site, store: MemoryStore) -> None:
    with pytest.raises(MaterialError, match=r"Has no `x_1\+b1_amd64\.deb`") as caught:
        fetcher(store, {"debian": site.address}).fetch(DEB)

    assert "`forge lock --upgrade-package x`, or an archive of snapshots" in caught.value.faults[0].hint


def test_an_address_that_is_gone_says_how_to_do_without(site: Site, store: MemoryStore) -> None:
    with pytest.raises(MaterialError, match="Put the file into a folder and name that"):
        fetcher(store, {}).fetch(replace(WEB, path=f"{site.address}/m.gguf"))


@pytest.mark.parametrize("name", [f"blobs/{MODEL.digest.hash}", f"snapshots/{COMMIT}/sub/m.gguf"])
def test_the_cache_of_a_hubs_clients_gives_what_has_the_digest(tmp_path: Path, store: MemoryStore, name: str) -> None:
    blob = tmp_path / "hub/models--a--b" / name
    blob.parent.mkdir(parents=True)
    blob.write_bytes(DATA)
    nowhere = Path("/nonexistent")
    environ = {"PIP_NO_INDEX": "1", "HF_HOME": str(tmp_path)}
    sources = Sources.read({"debian": []}, environ, root=nowhere, etc=nowhere)
    Fetcher(sources, store, None, offline=True).fetch(MODEL)

    assert store.contains(MODEL.digest)


@pytest.mark.parametrize("place", ["hub", "folder"])
def test_a_size_that_the_lock_does_not_know_is_asked_for(
    site: Site, store: MemoryStore, tmp_path: Path, place: str
) -> None:
    unsized = replace(MODEL, digest=Hash(MODEL.digest.hash))
    site.files[f"/{MODEL.path}"] = DATA
    (tmp_path / "a/b/sub").mkdir(parents=True)
    (tmp_path / "a/b/sub/m.gguf").write_bytes(DATA)
    client = fetcher(store, {"hf": site.address if place == "hub" else str(tmp_path)})

    assert client.fetch(unsized) == MODEL.digest
    assert client.fetch(unsized) == MODEL.digest
    assert [method for method, _, _ in site.log] == (["HEAD", "GET"] if place == "hub" else [])


def test_wrong_bytes_of_an_unknown_size_are_refused(site: Site, store: MemoryStore) -> None:
    site.files[f"/{MODEL.path}"] = b"other"
    with pytest.raises(MaterialError, match="Cannot fetch `sub/m.gguf` of `a/b` at [0-9]+ \\(sha256"):
        fetcher(store, {"hf": site.address}).fetch(replace(MODEL, digest=Hash(MODEL.digest.hash)))

    assert store.blobs == {}


@pytest.mark.parametrize("code", [401, 403])
def test_a_closed_repository_is_told_from_one_that_is_away(site: Site, store: MemoryStore, code: int) -> None:
    site.answers[f"/{MODEL.path}"] = [status(code)]
    with pytest.raises(MaterialError) as caught:
        fetcher(store, {"hf": site.address}).fetch(MODEL)

    assert f"HTTP {code}" in str(caught.value)
    assert "the repository is gated, private or not there, and no token is set" in str(caught.value)
    assert caught.value.faults[0].hint.startswith("Accept the terms of `a/b` on its page, then set HF_TOKEN")


def test_the_next_place_is_tried_after_wrong_bytes(site: Site, store: MemoryStore) -> None:
    site.files["/bad/pool/x/x_1+b1_amd64.deb"] = DATA[::-1]
    site.files["/good/pool/x/x_1+b1_amd64.deb"] = DATA
    fetcher(store, {"debian": [f"{site.address}/bad", f"{site.address}/good"]}).fetch(DEB)

    assert list(store.blobs) == [DEB.digest]


def test_all_reasons_are_told_and_no_credentials(site: Site, store: MemoryStore, tmp_path: Path) -> None:
    site.files["/bad/pool/x/x_1+b1_amd64.deb"] = DATA[::-1]
    secret = site.address.replace("//", "//me:secret@")
    places = [f"{secret}/bad", f"{site.address}/none", "http://127.0.0.1:1", str(tmp_path)]
    with pytest.raises(MaterialError) as caught:
        fetcher(store, {"debian": places}).fetch(DEB)

    text = str(caught.value)
    assert f"Cannot fetch `{DEB.file}` (7000 bytes, sha256 {DEB.digest.hash}) from source `debian`" in text
    assert f"***@{site.address.removeprefix('http://')}/bad: Got {Digest.of(DATA[::-1])}, expected" in text
    assert f"{site.address}/none: Has no `{DEB.file}`" in text
    assert "127.0.0.1:1: Cannot connect" in text
    assert f"{tmp_path}: Has no" in text
    assert "hint: Set `debian = " in text
    assert "secret" not in text
    assert store.blobs == {}


def test_an_index_with_another_digest_is_not_downloaded_from(site: Site, store: MemoryStore) -> None:
    json_index(site, sha256="0" * 64)
    with pytest.raises(MaterialError, match=f"Offers a file of that name with sha256 {'0' * 64}"):
        fetcher(store, {"pypi": f"{site.address}/simple"}).fetch(WHEEL)

    assert site.asked(f"/files/{FILE}") == []


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"{}", JSON, "JSON that is no index page"),
        (b"[", JSON, "JSON that is no index page"),
        (b'{"meta": {"api-version": "2.0"}, "files": []}', JSON, "version 2.0"),
        (b"\0", "application/octet-stream", "not with an index page"),
        (b"<html></html>", "text/html", "Has no"),
    ],
    ids=["empty", "broken", "newer", "binary", "no links"],
)
def test_a_page_that_is_none_is_a_reason(site: Site, store: MemoryStore, body: bytes, kind: str, reason: str) -> None:
    site.files["/simple/my-thing/"], site.types["/simple/my-thing/"] = body, kind
    with pytest.raises(MaterialError, match=reason):
        fetcher(store, {"pypi": f"{site.address}/simple"}).fetch(WHEEL)


def test_offline_names_the_material_and_the_command(site: Site, store: MemoryStore) -> None:
    json_index(site)
    with pytest.raises(MaterialError, match=FILE.replace("+", r"\+")) as caught:
        fetcher(store, {"pypi": f"{site.address}/simple"}, offline=True).fetch(WHEEL)

    assert "forge fetch" in caught.value.faults[0].hint
    assert site.log == []


def test_offline_still_takes_from_folders(tmp_path: Path, store: MemoryStore) -> None:
    (tmp_path / FILE).write_bytes(DATA)
    fetcher(store, {"pypi": str(tmp_path)}, offline=True).fetch(WHEEL)

    assert store.contains(WHEEL.digest)


def test_threads_that_want_the_same_file_share_one_download(site: Site, store: MemoryStore) -> None:
    def slow(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.1)
        ranged(DATA)(handler)

    path = f"/{DEB.path}"
    site.answers[path] = [slow] * 8
    client = fetcher(store, {"debian": site.address})
    threads = [threading.Thread(target=client.fetch, args=(DEB,)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert len(site.asked(path)) == 1
    assert store.contains(DEB.digest)


def test_a_failure_is_not_remembered(site: Site, store: MemoryStore) -> None:
    path = f"/{DEB.path}"
    site.files[path] = DATA
    site.answers[path] = [status(403)]
    client = fetcher(store, {"debian": site.address})
    with pytest.raises(MaterialError, match="HTTP 403"):
        client.fetch(DEB)
    client.fetch(DEB)

    assert store.contains(DEB.digest)


def test_many_are_fetched_with_no_more_than_the_allowed_at_once(site: Site, store: MemoryStore) -> None:
    running, most, lock = [0], [0], threading.Lock()

    def counted(body: bytes, handler: BaseHTTPRequestHandler) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.02)
        with lock:
            running[0] -= 1
        ranged(body)(handler)

    materials = []
    for number in range(12):
        body = DATA + bytes([number])
        materials.append(replace(DEB, file=f"x{number}.deb", path=f"p/{number}", digest=Digest.of(body)))
        site.answers[f"/p/{number}"] = [lambda handler, body=body: counted(body, handler)]  # type: ignore[misc]
    fetcher(store, {"debian": site.address}, jobs=3).fetch_all(materials)

    assert all(store.contains(each.digest) for each in materials)
    assert most[0] <= 3


def test_all_failures_of_many_are_told_at_once(site: Site, store: MemoryStore) -> None:
    site.files[f"/{DEB.path}"] = DATA
    bad = [replace(DEB, file=f"bad{n}.deb", path=f"bad{n}", digest=Digest.of(bytes([n]))) for n in range(3)]
    with pytest.raises(MaterialError) as caught:
        fetcher(store, {"debian": site.address}).fetch_all([*bad, DEB])

    assert len(caught.value.faults) == 3
    assert store.contains(DEB.digest)


def test_an_interrupt_stops_the_downloads_that_run(site: Site, store: MemoryStore) -> None:
    def interrupt(material: Material, done: int, total: int) -> None:
        raise KeyboardInterrupt

    site.files[f"/{DEB.path}"] = DATA
    sources = Sources.read({"debian": site.address}, {"PIP_NO_INDEX": "1"}, etc=Path("/nonexistent"))
    client = Fetcher(sources, store, None, on_progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        client.fetch_all([DEB])
    with pytest.raises(MaterialError, match="Stopped"):
        client.fetch(DEB)
