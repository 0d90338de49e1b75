"""What a registry is sent, and what becomes of it where the registry or the line to it fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.image_name import ImageName
from forge.core.tree import Tree
from forge.net.connection import Connection, Unavailable
from forge.net.docker_config import DockerConfig
from forge.net.download import Downloader
from forge.net.login import RegistryLogin
from forge.oci import mediatype
from forge.oci.push import Content, Pusher
from forge.oci.referrer import SBOM, Referrer, push_referrers
from forge.oci.registry import Registry as Reader
from forge.oci.upload import Uploader
from tests.fakes.push import Writable
from tests.fakes.registry import Registry, open_registry, reply
from tests.fakes.store import MemoryStore
from tests.oci.sample import sound
from tests.oci.test_index import image, made
from tests.oci.test_registry import SECRET, docker_config

NAME = ImageName("vendor.test", "acme/app", "1.0")
OTHER = ImageName("vendor.test", "acme/other", "1.0")


class Here:
    """A registry, what is in the store, and what of it was pushed before."""

    def __init__(self, registry: Registry) -> None:
        self.registry, self.writable = registry, Writable()
        registry.store = self.writable
        self.store = MemoryStore()
        self.tree = sound(self.store)
        self.places: dict[str, str] = {}
        self.waits: list[float] = []

    @property
    def content(self) -> Content:
        return Content.read(self.tree, self.store)

    def pusher(self, environ: Mapping[str, str] | None = None, *, chunk: int = 1 << 20) -> Pusher:
        connection = Connection(environ or {})
        login = RegistryLogin(DockerConfig(environ or {}), connection)
        uploader = Uploader(self.registry.address, connection, login, sleep=self.waits.append, chunk=chunk)
        reader = Reader(self.registry.address, Downloader(None, connection=connection), login)
        return Pusher(reader, uploader, self.store, self.places)

    def push(self, name: ImageName = NAME, environ: Mapping[str, str] | None = None, *, chunk: int = 1 << 20) -> Pusher:
        found = self.pusher(environ, chunk=chunk)
        found.push(name, self.content)
        return found

    def has_whole(self, name: ImageName = NAME) -> bool:
        """Say whether the tag means the image, and every byte of it is there."""
        content = self.content
        blobs = self.writable.holds[name.repository]
        return (
            self.registry.tags[name.repository, name.tag] == content.root.digest.oci
            and all(each.oci in blobs for each in content.blobs)
            and all(self.registry.blobs[each.oci] == self.store.read(each) for each in content.blobs)
            and all(each.digest.oci in self.registry.documents for each in content.documents)
        )


@pytest.fixture
def here() -> Iterator[Here]:
    with open_registry() as registry:
        yield Here(registry)


def index_tree(here: Here) -> Tree:
    return made(here.store, image(here.store, "amd64"), image(here.store, "arm64"))[0]


def test_an_image_arrives_whole_and_its_tag_comes_last(here: Here) -> None:
    tally = here.push().tally
    digest = here.content.root.digest

    assert here.has_whole()
    assert [digest.oci, "1.0"] == here.writable.puts
    assert (sum(each.size for each in here.content.blobs) + digest.size, 0, 0) == (
        tally.sent,
        tally.mounted,
        tally.there,
    )


def test_an_index_comes_after_its_manifests(here: Here) -> None:
    here.tree = index_tree(here)
    here.push()
    *inner, root = (each.digest.oci for each in here.content.documents)

    assert here.has_whole()
    assert [*inner, root, "1.0"] == here.writable.puts and len(inner) == 2


def test_a_second_push_sends_nothing(here: Here) -> None:
    here.push()
    received, puts = here.writable.received, len(here.writable.puts)
    tally = here.push().tally

    assert (0, 0) == (tally.sent, tally.mounted)
    assert (received, puts) == (here.writable.received, len(here.writable.puts))


def test_what_another_repository_has_is_mounted(here: Here) -> None:
    here.push()
    received = here.writable.received
    tally = here.push(OTHER).tally

    assert here.has_whole(OTHER)
    assert received == here.writable.received
    assert sum(each.size for each in here.content.blobs) == tally.mounted


@pytest.mark.parametrize("how", ["ignored", "refused"])
def test_a_registry_that_mounts_nothing_gets_the_bytes(here: Here, how: str) -> None:
    here.push()
    here.writable.mounts, here.writable.refuses_mounts = False, how == "refused"
    tally = here.push(OTHER).tally

    assert here.has_whole(OTHER)
    assert 0 == tally.mounted


def test_a_large_blob_goes_in_chunks(here: Here) -> None:
    here.push(chunk=1000)
    spans = [headers["content-range"] for headers in here.registry.asked("uploads") if "content-range" in headers]

    assert here.has_whole()
    assert "0-999" in spans and "1000-1999" in spans


@pytest.mark.parametrize("chunk", [1 << 20, 4000], ids=["whole", "chunks"])
def test_an_upload_that_breaks_off_goes_on_where_it_was(here: Here, chunk: int) -> None:
    large = max(here.content.blobs, key=lambda each: each.size)
    pusher = here.pusher(chunk=chunk)
    here.writable.breaks = [3000, 500]
    pusher.blobs(NAME.repository, [large])

    assert arrived(here, large)
    assert large.size == here.writable.received, "what had come was not sent again"
    assert 2 == len(here.waits)


def arrived(here: Here, digest: Digest) -> bool:
    return here.registry.blobs[digest.oci] == here.store.read(digest)


def test_an_upload_that_the_registry_forgot_begins_again(here: Here) -> None:
    large = max(here.content.blobs, key=lambda each: each.size)
    here.writable.breaks = [3000]

    def restarted(handler: BaseHTTPRequestHandler) -> None:
        here.writable.uploads = {"u0": bytearray()}
        reply(handler, 404, b"")

    here.registry.faults["GET u0"] = [restarted]
    here.pusher().blobs(NAME.repository, [large])

    assert arrived(here, large)


def test_an_upload_that_came_to_other_bytes_begins_again(here: Here) -> None:
    large = max(here.content.blobs, key=lambda each: each.size)
    here.writable.breaks = [3000]

    def damaged(handler: BaseHTTPRequestHandler) -> None:
        here.writable.uploads["u0"][:5] = b"other"
        reply(handler, 204, b"", {"Range": "0-2999"})

    here.registry.faults["GET u0"] = [damaged]
    here.pusher().blobs(NAME.repository, [large])

    assert arrived(here, large)


def answers(status: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: reply(handler, status, b"", {key.replace("_", "-"): value for key, value in headers.items()})


@pytest.mark.parametrize("place", ["POST ", "PUT u0", "PUT 1.0", "HEAD 1.0"])
@pytest.mark.parametrize(("status", "wait"), [(429, 7.0), (500, 0.5), (503, 0.5)])
def test_a_registry_that_is_busy_is_asked_again(here: Here, place: str, status: int, wait: float) -> None:
    here.registry.faults[place] = [answers(status, **({"Retry_After": "7"} if status == 429 else {}))]
    here.push()

    assert here.has_whole()
    assert [wait] == here.waits


@pytest.mark.parametrize("place", ["POST ", "PUT 1.0"])
def test_a_registry_that_stays_away_leaves_no_tag(here: Here, place: str) -> None:
    here.registry.faults[place] = [answers(500)] * 60

    with pytest.raises(MaterialError, match=r"Cannot push to `vendor.test/acme/app:1.0` at .*: HTTP 500 .*6 attempts"):
        here.push()
    assert {} == here.registry.tags


def test_a_line_that_breaks_for_good_leaves_no_tag(here: Here) -> None:
    here.writable.breaks = [0] * 100

    with pytest.raises(MaterialError, match="The connection broke|No answer"):
        here.push()
    assert {} == here.registry.tags and [] == here.writable.puts


def test_a_tag_that_was_there_stays_when_a_push_fails(here: Here) -> None:
    here.push()
    before = dict(here.registry.tags)
    here.tree = index_tree(here)
    here.registry.faults["POST "] = [answers(403)] * 20

    with pytest.raises(MaterialError, match="HTTP 403"):
        here.push()
    assert before == here.registry.tags


def test_what_the_registry_says_is_passed_on(here: Here) -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": "quota exceeded"}]}).encode()
    here.registry.faults["POST "] = [lambda handler: reply(handler, 403, body)] * 20

    with pytest.raises(MaterialError, match=r"\(DENIED: quota exceeded\)"):
        here.push()


def test_a_wrong_digest_back_is_an_error_and_sets_no_tag(here: Here) -> None:
    here.writable.lies = f"sha256:{'1' * 64}"

    with pytest.raises(MaterialError, match=r"Takes sha256:[0-9a-f]{64} for sha256:1{64}"):
        here.push()
    assert {} == here.registry.tags


def test_bytes_of_the_store_that_are_others_are_refused_by_the_registry(here: Here) -> None:
    layer = here.content.images[0].layers[0].digest
    here.store.blobs[layer] = bytes(layer.size)

    with pytest.raises(MaterialError, match="DIGEST_INVALID"):
        here.push()
    assert {} == here.registry.tags


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_dockers_login_opens_a_registry(here: Here, tmp_path: Path, scheme: str) -> None:
    here.registry.login, here.registry.scheme = ("me", SECRET), scheme
    environ = docker_config(tmp_path, here.registry)
    here.push(environ=environ)
    here.push(OTHER, environ)

    assert here.has_whole() and here.has_whole(OTHER)
    assert not any(SECRET.encode() in blob for blob in here.registry.blobs.values())


def test_without_a_login_it_is_said_that_one_is_wanted(here: Here) -> None:
    here.registry.login = ("me", SECRET)

    with pytest.raises(MaterialError, match="Docker's configuration has no login for it"):
        here.push()


def test_i04_a_login_goes_to_no_other_host_that_uploads_are_sent_to(tmp_path: Path) -> None:
    with open_registry(blobs_elsewhere=True) as registry:
        here = Here(registry)
        here.writable.uploads_address = registry.blobs_address
        registry.login = ("me", SECRET)
        here.push(environ=docker_config(tmp_path, registry))
        elsewhere = registry.asked("", "blobs")

        assert here.has_whole()
    assert elsewhere and [] == [headers for headers in elsewhere if "authorization" in headers]


def test_i04_a_login_goes_to_no_other_host_that_a_request_is_redirected_to(tmp_path: Path) -> None:
    with open_registry(blobs_elsewhere=True) as registry:
        here = Here(registry)
        registry.login = ("me", SECRET)
        moved = [lambda h: reply(h, 307, b"", {"Location": f"{registry.blobs_address}{h.path}"})]
        registry.faults["PUT u0"] = [*moved]
        here.push(environ=docker_config(tmp_path, registry))
        (elsewhere,) = registry.asked("", "blobs")

        assert here.has_whole()
    assert "authorization" not in elsewhere


def test_i04_no_upload_goes_from_https_to_http() -> None:
    uploader = Uploader("https://vendor.test", Connection({}), RegistryLogin(DockerConfig({}), Connection({})))

    with pytest.raises(Unavailable, match="from https to `http://elsewhere.test/u\\?\\*\\*\\*`"):
        uploader.follow("https://vendor.test/v2/a/blobs/uploads/", {"Location": "http://elsewhere.test/u?token=x"})


@pytest.mark.parametrize("location", ["", "ftp://elsewhere.test/u"])
def test_an_upload_that_goes_on_nowhere_is_an_error(here: Here, location: str) -> None:
    here.registry.faults["POST "] = [answers(202, **({"Location": location} if location else {}))] * 9

    with pytest.raises(MaterialError, match="Does not say where an upload goes on|Sends an upload to"):
        here.push()


@pytest.mark.parametrize("lists", [True, False])
def test_what_is_known_about_an_image_is_found_from_it(here: Here, lists: bool) -> None:
    here.writable.lists = lists
    pusher = here.push()
    root = here.content.root
    one = Referrer(root, SBOM, here.store.put(b"{}\n"), "x.sbom.json")
    other = Referrer(root, "text/plain", here.store.put(b"other"), "x.txt", {"a": "b"})
    push_referrers(pusher, NAME.repository, [one])
    push_referrers(pusher, NAME.repository, [one, other])
    push_referrers(here.pusher(), NAME.repository, [one, other])
    manifest = json.loads(here.registry.documents[Digest.of(one.manifest()).oci][1])

    assert root.digest.oci == manifest["subject"]["digest"] and SBOM == manifest["artifactType"]
    tag = here.registry.tags.get((NAME.repository, f"sha256-{root.digest.hash}"))
    assert lists == (tag is None)
    if tag is not None:
        media_type, data = here.registry.documents[tag]
        assert mediatype.INDEX == media_type
        assert [SBOM, "text/plain"] == [each["artifactType"] for each in json.loads(data)["manifests"]]


def test_a_registry_that_takes_images_alone_is_said(here: Here) -> None:
    pusher = here.push()
    one = Referrer(here.content.root, SBOM, here.store.put(b"{}\n"), "x.sbom.json")
    here.registry.faults[f"PUT {Digest.of(one.manifest()).oci}"] = [answers(400)]

    with pytest.raises(MaterialError, match="what is known about it is not: HTTP 400") as caught:
        push_referrers(pusher, NAME.repository, [one])
    assert "--noreferrers" in str(caught.value)
