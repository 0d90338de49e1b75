"""Locking models at a hub on this machine, and what a hub may get wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.lock import Lock
from forge.core.model_source import HubSource, ModelRequest, WebSource
from forge.net.connection import Connection
from forge.net.download import Downloader
from forge.packages.fetch import Fetcher
from forge.packages.lock_model import lock_model
from forge.packages.sources import Sources
from tests.fakes.hub import Hub, cut, instead, open_hub, stalled
from tests.fakes.store import MemoryStore
from tests.net.test_download import shared_client

FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 99, "sub/a b.txt": b"text", "x.bin": b"\x80\x02."}
NOWHERE = Path("/nonexistent")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with open_hub() as found:
        found.publish(FILES)
        yield found


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def request(*globs: str, revision: str = "main", repository: str = "acme/tiny") -> ModelRequest:
    chosen = globs or ("*.json", "*.safetensors")
    return ModelRequest(HubSource(repository), revision, chosen, tuple(f"files {glob}" for glob in chosen))


def lock(hub: Hub, store: MemoryStore, wanted: ModelRequest, *, previous: Lock | None = None, token: str = "") -> Lock:
    environ = {"PIP_NO_INDEX": "1", "HF_ENDPOINT": hub.address, "HF_TOKEN": token}
    transfer = Downloader(connection=Connection({}, client=shared_client()), sleep=lambda seconds: None, attempts=2)
    sources = Sources.read({"debian": []}, environ, root=NOWHERE, etc=NOWHERE)
    return lock_model(wanted, sources, store, previous=previous, downloader=transfer)


def fault(hub: Hub, store: MemoryStore, wanted: ModelRequest) -> str:
    with pytest.raises(MaterialError) as caught:
        lock(hub, store, wanted)
    return str(caught.value)


def test_large_files_are_locked_by_what_the_hub_says_small_ones_by_their_bytes(hub: Hub, store: MemoryStore) -> None:
    made = lock(hub, store, request("**", "!*.bin"))

    assert {each.file: each.digest for each in made.materials} == {
        name: Digest.of(data) for name, data in FILES.items() if name != "x.bin"
    }
    assert {Digest.of(FILES["config.json"]), Digest.of(FILES["sub/a b.txt"])} == set(store.blobs)
    assert [path for where, _, path, _ in hub.log if where == "objects"] == []


def test_a_branch_is_pinned_to_its_commit(hub: Hub, store: MemoryStore) -> None:
    made = lock(hub, store, request())

    assert (made.repository, made.revision) == ("acme/tiny", hub.branches["acme/tiny", "main"])
    assert made.requested == ("files *.json", "files *.safetensors", "hf:acme/tiny", "revision main")
    assert {each.path.split("/")[3] for each in made.materials} == {made.revision}


@pytest.mark.parametrize("revision", ["main", "refs/pr/1", "a commit"])
def test_a_revision_may_be_a_branch_a_reference_or_a_commit(hub: Hub, store: MemoryStore, revision: str) -> None:
    commit = hub.publish({"config.json": b"other"}, branch="refs/pr/1") if revision != "main" else ""
    made = lock(hub, store, request("*.json", revision=commit if revision == "a commit" else revision))

    assert made.revision == (commit or hub.branches["acme/tiny", "main"])


def test_a_branch_stays_at_its_commit_until_another_is_asked_for(hub: Hub, store: MemoryStore) -> None:
    previous = lock(hub, store, request())
    new = hub.publish({**FILES, "config.json": b"[]"})
    hub.publish({**FILES, "config.json": b"[1]"}, branch="dev")

    assert lock(hub, store, request("*.json"), previous=previous).revision == previous.revision
    assert lock(hub, store, request()).revision == new
    assert lock(hub, store, request(revision="dev"), previous=previous).revision == hub.branches["acme/tiny", "dev"]


def test_a_gated_repository_opens_with_a_token_that_goes_to_the_hub_only(hub: Hub, store: MemoryStore) -> None:
    hub.token = "hf_secret"
    refused = fault(hub, store, request())
    with pytest.raises(MaterialError, match="and its token does not open it"):
        lock(hub, store, request(), token="hf_wrong")
    made = lock(hub, store, request(), token="hf_secret")

    assert "HTTP 401 Unauthorized: the repository is gated, private or not there, and no token is set" in refused
    assert "hf_" not in refused
    assert len(made.materials) == 2


def test_a_repository_or_revision_that_is_not_there_says_so(hub: Hub, store: MemoryStore) -> None:
    assert "HTTP 404 Not Found: no such repository or revision" in fault(hub, store, request(revision="v9"))
    assert "Cannot resolve `hf:acme/none` at `main`" in fault(hub, store, request(repository="acme/none"))


def test_pickles_and_globs_that_match_nothing_are_refused(hub: Hub, store: MemoryStore) -> None:
    assert "`hf:acme/tiny` at `main`: [x.bin]: a pickle runs code" in fault(hub, store, request("**"))
    assert "[*.gguf] matches none of its files: [config.json, model.safe" in fault(hub, store, request("*.gguf"))


def test_a_small_file_that_breaks_off_is_asked_for_again(hub: Hub, store: MemoryStore) -> None:
    hub.faults["config.json"] = [cut(FILES["config.json"], 1)]

    assert [each.digest for each in lock(hub, store, request("*.json")).materials] == [Digest.of(b"{}")]
    assert len(hub.asked("/config.json")) == 2


COMMIT = "0123456789" * 4
LARGE = {"type": "file", "path": "a.json", "size": 1}


@pytest.mark.parametrize(
    ("last", "body", "expected"),
    [
        ("main", b"<html>", "Does not speak the Hub's protocol: its answer is not JSON"),
        ("main", b"[" * 200_000, "its answer is not JSON"),
        ("main", b"[]", "Names no commit for `main`"),
        ("main", b'{"sha": "main"}', "Names no commit for `main`"),
        (None, b'{"error": "x"}', "Lists no files"),
        (None, json.dumps([LARGE | {"lfs": 1}]).encode(), "Gives no digest of the large object `a.json`"),
        (None, json.dumps([LARGE | {"lfs": {"oid": "0", "size": 1}}]).encode(), "Not a SHA-256 digest: `0`"),
        (None, json.dumps([LARGE | {"lfs": {"oid": "0" * 64, "size": -1}}]).encode(), "Not a SHA-256 digest"),
        (None, json.dumps([LARGE | {"path": "../a.json", "lfs": {"oid": "0" * 64, "size": 1}}]).encode(),
         "has files that no lock can name: `../a.json` is no path in a model"),
        (None, json.dumps([1, {"type": "file", "path": 1}]).encode(), "matches none of its files: []"),
    ],
)  # fmt: skip
def test_what_a_hub_gets_wrong_is_told(
    hub: Hub, store: MemoryStore, last: str | None, body: bytes, expected: str
) -> None:
    hub.faults[last or hub.branches["acme/tiny", "main"]] = [instead(body)]

    assert expected in fault(hub, store, request("**.json"))


def test_a_hub_that_gives_another_commit_than_the_one_asked_for_is_refused(hub: Hub, store: MemoryStore) -> None:
    hub.faults[COMMIT] = [instead(json.dumps({"sha": "f" * 40}).encode())]

    assert f"Gives the commit {'f' * 40} for {COMMIT}" in fault(hub, store, request(revision=COMMIT))


@pytest.mark.parametrize(
    ("link", "expected"),
    [("http://127.0.0.1:9/elsewhere", "Continues its list somewhere else"), ("?again=1", "more than 100 pages")],
)
def test_a_list_that_leads_away_or_never_ends_is_left(hub: Hub, store: MemoryStore, link: str, expected: str) -> None:
    commit = hub.branches["acme/tiny", "main"]
    hub.faults[commit] = [instead(b"[]", Link=f'<{link}>; rel="next"')] * 100

    assert expected in fault(hub, store, request())


def test_addresses_are_downloaded_to_be_locked(hub: Hub, store: MemoryStore) -> None:
    base = f"{hub.address}/acme/tiny/resolve/{hub.branches['acme/tiny', 'main']}"
    wanted = ModelRequest(
        WebSource((("c.json", f"{base}/config.json"), ("m.safetensors", f"{base}/model.safetensors")))
    )
    made = lock(hub, store, wanted)

    assert [(each.file, each.digest, each.source) for each in made.materials] == [
        ("c.json", Digest.of(FILES["config.json"]), "https"),
        ("m.safetensors", Digest.of(FILES["model.safetensors"]), "https"),
    ]
    assert store.contains(Digest.of(FILES["model.safetensors"]))
    assert (made.repository, made.revision, made.requested) == ("", "", wanted.requested)


def test_an_address_that_gives_nothing_is_named_without_its_query(hub: Hub, store: MemoryStore) -> None:
    wanted = ModelRequest(WebSource((("c.json", f"{hub.address}/a/b/resolve/x/c.json?key=secret"),)))
    message = fault(hub, store, wanted)

    assert "Cannot lock" in message
    assert "HTTP 404" in message
    assert "secret" not in message


def test_a_large_file_that_stalls_is_an_error_and_the_next_try_goes_on(
    hub: Hub, store: MemoryStore, tmp_path: Path
) -> None:
    weights = FILES["model.safetensors"]
    (material,) = lock(hub, store, request("*.safetensors")).materials
    hub.faults[Digest.of(weights).hash] = [stalled(weights, 100, 1.0)]
    sources = Sources.read({"hf": hub.address, "debian": []}, {"PIP_NO_INDEX": "1"}, root=NOWHERE, etc=NOWHERE)
    with httpx2.Client(timeout=0.2, trust_env=False) as client:
        transfer = Downloader(tmp_path, connection=Connection({}, timeout=0.2, client=client), attempts=1)
        fetcher = Fetcher(sources, store, tmp_path, downloader=transfer)
        with pytest.raises(MaterialError, match="No answer within 0.2 s"):
            fetcher.fetch(material)
        found = fetcher.fetch(material)

    assert store.read(found) == weights
    assert [headers.get("range") for headers in hub.asked(material.digest.hash, "objects")] == [None, "bytes=100-"]


def test_folders_know_no_branches(store: MemoryStore, tmp_path: Path) -> None:
    sources = Sources.read({"hf": str(tmp_path), "debian": []}, {"PIP_NO_INDEX": "1"}, root=NOWHERE, etc=NOWHERE)
    with pytest.raises(MaterialError, match="Cannot resolve `hf:acme/tiny` at `main`: no hub"):
        lock_model(request(), sources, store)
