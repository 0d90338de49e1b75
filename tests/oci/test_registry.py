"""A registry's faults, and who is shown which login."""

from __future__ import annotations

import base64
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from forge.core.base_image import BaseImage
from forge.core.digest import Digest, Hash
from forge.core.errors import ForgeError, MaterialError
from forge.core.image_material import image_document
from forge.core.image_name import ImageName
from forge.core.lock import Lock, LockRequest
from forge.core.lock_text import parse as parse_lock
from forge.core.lock_text import render as render_lock
from forge.core.model_source import ImageSource, ModelRequest
from forge.core.tool import FileContent, Json, ToolRequest, TreeContent
from forge.core.tree import Tree
from forge.net.connection import Connection
from forge.net.docker_config import DockerConfig
from forge.net.download import Downloader
from forge.net.login import RegistryLogin
from forge.oci import extract
from forge.oci.lock_image import lock_image
from forge.oci.lock_model import lock_image_model
from forge.oci.pull import Pull
from forge.oci.registry import Registry as Client
from forge.oci.summary import summarize
from forge.packages.fetch import Fetcher
from forge.packages.sources import Sources
from tests.fakes.registry import DOCKER, OCI, Registry, broken, open_registry, reply
from tests.fakes.store import MemoryStore
from tests.oci.handmade import folder, member, tar

NAME = ImageName("vendor.test", "acme/base", "1.0")
TARS = [tar([folder("a"), member("a/f", b"content")]), tar([member("b", b"b" * 4096)])]
SECRET = "s3cret-7f31"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with open_registry() as found:
        found.tag(
            "acme/base", "1.0", found.index((found.image(TARS), "amd64"), (found.image(TARS, arch="arm64"), "arm64"))
        )
        yield found


def client(registry: Registry, environ: Mapping[str, str] | None = None, address: str = "") -> Client:
    connection = Connection(environ or {})
    login = RegistryLogin(DockerConfig(environ or {}), connection)
    return Client(address or registry.address, Downloader(None, connection=connection, sleep=lambda _: None), login)


def lock(
    registry: Registry, arch: str = "amd64", *, digest: str = "", environ: Mapping[str, str] | None = None
) -> tuple[Lock, list[str]]:
    said: list[str] = []
    name = ImageName(NAME.registry, NAME.repository, NAME.tag, digest)
    request = LockRequest("base", "image", "arm64" if arch == "arm64" else "amd64", image=name)
    return lock_image(request, [client(registry, environ)], warn=said.append), said


def image_of(made: Lock) -> BaseImage:
    assert made.image is not None
    return made.image


def pull(registry: Registry, made: Lock, store: MemoryStore, environ: Mapping[str, str] | None = None) -> Tree:
    image = image_of(made)
    assert image.digest is not None
    sources = Sources.read({NAME.registry: registry.address}, environ or {}, etc=Path("/nonexistent"))
    transfer = Downloader(None, connection=Connection(environ or {}), sleep=lambda _: None)
    fetcher = Fetcher(sources, store, None, downloader=transfer)
    pinned = fetcher.fetch(image_document(image, image.digest))
    tool = Pull(lambda materials, progress: [fetcher.fetch(each) for each in materials])
    params = {"registry": NAME.registry, "repository": NAME.repository, "tag": NAME.tag, "arch": made.arch}
    made_of = tool(ToolRequest(params, {"pinned": FileContent(pinned)}, store))["layout"]
    assert isinstance(made_of, TreeContent)
    return Tree.decode(store.read(made_of.tree))


def docker_config(folder: Path, registry: Registry, user: str = "me", password: str = SECRET) -> dict[str, str]:
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    return {"DOCKER_CONFIG": str(folder)}


def test_a_tag_is_locked_with_all_that_lies_below_it(registry: Registry) -> None:
    made, said = lock(registry, "arm64")
    image = image_of(made)

    assert image.digest is not None and image.manifest is not None and said == []
    assert f"sha256:{image.digest}" == registry.tags["acme/base", "1.0"]
    assert image.manifest.digest.oci in registry.documents
    assert [blob.digest.oci in registry.blobs for blob in image.blobs()] == [True] * 3


def test_a_mirror_has_its_path_before_the_repository(registry: Registry) -> None:
    registry.tags["mirror/vendor/acme/base", "1.0"] = registry.tags["acme/base", "1.0"]
    found = client(registry, address=f"{registry.address}/mirror/vendor").resolve(NAME)

    assert registry.tags["acme/base", "1.0"] == found.digest.oci


def test_an_image_is_pulled_byte_for_byte(registry: Registry) -> None:
    made, _ = lock(registry)
    store = MemoryStore()
    summary = summarize(pull(registry, made, store), store)

    assert [blob.digest for blob in image_of(made).layers] == [layer.digest for layer in summary.layers]


def test_a_digest_alone_is_enough_to_pull(registry: Registry) -> None:
    bare = Lock("image", "amd64", (), (), image=BaseImage(NAME, image_of(lock(registry)[0]).digest))
    store = MemoryStore()

    assert summarize(pull(registry, bare, store), store).architecture == "amd64"


def test_a_declared_digest_that_the_registry_contradicts_is_an_error(registry: Registry) -> None:
    other = f"sha256:{'1' * 64}"

    with pytest.raises(
        MaterialError, match=f"declared as {other}, `vendor.test` has {registry.tags['acme/base', '1.0']}"
    ):
        lock(registry, digest=other)


def test_a_tag_that_is_not_there_is_an_error_and_not_left_out(registry: Registry) -> None:
    registry.tags.clear()

    with pytest.raises(MaterialError, match="no such repository, tag or digest"):
        lock(registry)


def test_what_a_tag_meant_is_locked_though_the_tag_is_gone(registry: Registry) -> None:
    digest = registry.tags.pop(("acme/base", "1.0"))

    assert image_of(lock(registry, digest=digest)[0]).manifest is not None


@pytest.mark.parametrize(("digest", "said"), [(f"sha256:{'1' * 64}", "digest alone"), ("", "is left out")])
def test_a_registry_that_cannot_be_reached_leaves_the_declared_digest(digest: str, said: str) -> None:
    with open_registry() as gone:
        pass
    made, warned = lock(gone, digest=digest)

    assert image_of(made).digest == (Hash("1" * 64) if digest else None)
    assert said in warned[0] and "Cannot connect" in warned[0]


def test_a_registry_that_is_busy_is_asked_again(registry: Registry) -> None:
    registry.faults["1.0"] = [lambda h: reply(h, 429, b"", {"Retry-After": "1"}), lambda h: reply(h, 503, b"")]

    assert image_of(lock(registry)[0]).digest is not None


def test_a_blob_that_breaks_off_and_one_that_is_another(registry: Registry) -> None:
    made, _ = lock(registry)
    layer = image_of(made).layers[0].digest
    registry.faults[layer.oci] = [broken(layer.size, 3)]
    registry.blobs[layer.oci] = b"\1" * layer.size

    with pytest.raises(MaterialError, match=f"Cannot fetch `base-{layer.short}` of `vendor.test/acme/base` at 1.0"):
        pull(registry, made, MemoryStore())


def test_a_document_that_is_another_is_refused(registry: Registry) -> None:
    made, _ = lock(registry)
    digest = registry.tags["acme/base", "1.0"]
    registry.documents[digest] = (f"{OCI}index.v1+json", b"{}")

    with pytest.raises(MaterialError, match="another document than was asked for"):
        pull(registry, made, MemoryStore())


def test_a_tag_that_moved_moves_no_lock(registry: Registry) -> None:
    made, _ = lock(registry)
    registry.tag("acme/base", "1.0", registry.image([TARS[1]]))
    store = MemoryStore()

    assert len(summarize(pull(registry, made, store), store).layers) == 2


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_dockers_login_opens_a_registry(registry: Registry, tmp_path: Path, scheme: str) -> None:
    registry.login, registry.scheme = ("me", SECRET), scheme
    environ = docker_config(tmp_path, registry)
    store = MemoryStore()
    made, _ = lock(registry, environ=environ)

    assert len(summarize(pull(registry, made, store, environ), store).layers) == 2
    assert not any(SECRET.encode() in blob for blob in store.blobs.values())
    assert scheme == "Basic" or 1 == registry.issued - 1, "one token each for the lock and for the pull"


def test_a_helper_is_asked_for_its_login(registry: Registry, tmp_path: Path) -> None:
    registry.login = ("me", SECRET)
    helper = tmp_path / "docker-credential-keys"
    helper.write_text(f'#!/bin/sh\nread host\necho \'{{"Username": "me", "Secret": "{SECRET}"}}\'\n')
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {registry.host: "keys"}}))

    made, _ = lock(registry, environ={"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"})

    assert image_of(made).manifest is not None


def test_an_identity_token_is_exchanged(registry: Registry, tmp_path: Path) -> None:
    registry.login = ("me", SECRET)
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"identitytoken": "identity"}}}))

    assert image_of(lock(registry, environ={"DOCKER_CONFIG": str(tmp_path)})[0]).manifest is not None


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ("{", "`config.json` cannot be read"),
        ('{"credsStore": "nowhere"}', "names `docker-credential-nowhere`, which is not there"),
        ('{"credsStore": "../evil"}', "which is not there"),
        ("{}", "Docker's configuration has no login for it"),
    ],
)
def test_a_login_that_cannot_be_had_is_said(registry: Registry, tmp_path: Path, config: str, fault: str) -> None:
    registry.login = ("me", SECRET)
    (tmp_path / "config.json").write_text(config)
    made, said = lock(registry, environ={"DOCKER_CONFIG": str(tmp_path), "PATH": ""})

    assert image_of(made).digest is None and fault in said[0]


def test_a_wrong_login_is_said_and_not_shown(registry: Registry, tmp_path: Path) -> None:
    registry.login = ("me", "another")
    _, said = lock(registry, environ=docker_config(tmp_path, registry))

    assert "Docker's login for it is refused" in said[0]
    assert SECRET not in said[0]


def test_i04_a_token_goes_to_no_other_host(tmp_path: Path) -> None:
    with open_registry(blobs_elsewhere=True) as registry:
        registry.login = ("me", SECRET)
        registry.tag("acme/base", "1.0", registry.image(TARS))
        environ = docker_config(tmp_path, registry)
        image = BaseImage(NAME, Hash(registry.tags["acme/base", "1.0"].removeprefix("sha256:")))
        store = MemoryStore()
        pull(registry, Lock("image", "amd64", (), (), image=image), store, environ)
        elsewhere = registry.asked("", "blobs")

    assert len(elsewhere) == 3
    assert [headers for headers in elsewhere if "authorization" in headers] == []


def test_i04_a_login_goes_to_no_realm_over_plain_http_elsewhere(registry: Registry, tmp_path: Path) -> None:
    registry.login, registry.realm = ("me", SECRET), "http://tokens.example/token"
    _, said = lock(registry, environ=docker_config(tmp_path, registry))

    assert "for a token, where no login may go" in said[0]


def test_a_missing_architecture_names_those_that_are_there(registry: Registry) -> None:
    registry.tag("acme/base", "1.0", registry.index((registry.image(TARS), "amd64")))

    with pytest.raises(ForgeError, match=r"no manifest for linux/arm64, but for \[linux/amd64\]"):
        lock(registry, "arm64")


def test_a05_a_platform_that_lies_is_found_out(registry: Registry) -> None:
    registry.tag("acme/base", "1.0", registry.index((registry.image(TARS), "arm64")))

    with pytest.raises(ForgeError, match="for linux on amd64, not for linux on arm64"):
        lock(registry, "arm64")


def test_a_manifest_of_docker_is_read(registry: Registry) -> None:
    found = json.loads(registry.documents[registry.image(TARS)["digest"]][1])
    found["mediaType"] = f"{DOCKER}distribution.manifest.v2+json"
    found["config"]["mediaType"] = f"{DOCKER}container.image.v1+json"
    for layer in found["layers"]:
        layer["mediaType"] = f"{DOCKER}image.rootfs.diff.tar.gzip"
    registry.tag("acme/base", "1.0", registry.document(found))
    store = MemoryStore()

    assert len(summarize(pull(registry, lock(registry)[0], store), store).layers) == 2


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"mediaType": "application/vnd.acme.thing"}, "neither an image nor an index of images"),
        ({"manifests": []}, "a manifest and an index at once"),
        ({"layers": [{"mediaType": "x", "digest": f"sha256:{'0' * 64}", "size": 1}]}, "`x`, which is not supported"),
        ({"layers": [{"mediaType": "x", "digest": f"sha512:{'0' * 128}", "size": 1}]}, "is not `sha256:` and 64"),
        ({"layers": []}, "The image has no layer"),
        ({"annotations": {"a": "x" * (5 << 20)}}, "Gives more than 4194304 bytes"),
    ],
    ids=["media type", "both", "layer", "algorithm", "empty", "huge"],
)
def test_a05_documents_that_lie_are_refused(registry: Registry, change: dict[str, object], fault: str) -> None:
    found = {**json.loads(registry.documents[registry.image(TARS)["digest"]][1]), **change}
    registry.tag("acme/base", "1.0", registry.document(found))
    try:
        said = "".join(lock(registry)[1])
    except ForgeError as error:
        said = str(error)

    assert fault in said


def test_a05_an_index_in_an_index_is_not_followed(registry: Registry) -> None:
    inner = registry.index((registry.image(TARS), "amd64"))
    registry.tag("acme/base", "1.0", registry.index((inner, "amd64")))

    with pytest.raises(ForgeError, match="no manifest for linux/amd64"):
        lock(registry)


def test_a04_a_layer_that_is_not_what_its_diff_id_says_is_refused(registry: Registry) -> None:
    described = registry.image(TARS)
    found = json.loads(registry.documents[described["digest"]][1])
    found["layers"].reverse()
    registry.tag("acme/base", "1.0", registry.document(found))

    with pytest.raises(ForgeError, match="Uncompressed it is"):
        pull(registry, lock(registry)[0], MemoryStore())


def test_digests_are_of_bytes(registry: Registry) -> None:
    found = client(registry).resolve(NAME)

    assert Digest.of(found.data) == found.digest


def model_lock(registry: Registry, store: MemoryStore, *, pickles: tuple[str, ...] = ()) -> Lock:
    def pull_all(request: ToolRequest) -> Mapping[str, TreeContent]:
        bare = BaseImage(NAME, Hash(registry.tags["acme/base", "1.0"].removeprefix("sha256:")))
        tree = pull(registry, Lock("image", "all", (), (), image=bare), store)
        return {"layout": TreeContent(tree.digest, tree.root)}

    request = ModelRequest(ImageSource(NAME), "", ("*.gguf", "*.bin"), ("format gguf",), pickles, "models")
    return lock_image_model(request, [client(registry)], store, pull_all)


MODELS = [
    tar([folder("models"), member("models/m.gguf", b"old"), member("models/README", b"x")]),
    tar([folder("models"), member("models/m.gguf", b"new"), member("models/.wh.README")]),
]


def test_a_model_in_an_image_is_locked_by_its_files(registry: Registry) -> None:
    digest = registry.tag("acme/base", "1.0", registry.image(MODELS, arch="arm64"))
    made = model_lock(registry, MemoryStore())

    assert ("vendor.test", "acme/base", digest) == (made.materials[0].source, made.repository, made.revision)
    assert [("m.gguf", Digest.of(b"new"))] == [(each.file, each.digest) for each in made.materials]
    assert made == parse_lock(tomllib.loads(render_lock(made)))


def test_a_pickle_in_an_image_is_refused(registry: Registry) -> None:
    registry.tag("acme/base", "1.0", registry.image([tar([folder("models"), member("models/m.bin", b"x")])]))

    with pytest.raises(MaterialError, match="a pickle runs code"):
        model_lock(registry, MemoryStore())


def test_a_registry_that_has_no_such_model_is_named(registry: Registry) -> None:
    registry.tags.clear()
    request = ModelRequest(ImageSource(NAME), "", ("*",), (), (), "models")

    with pytest.raises(MaterialError, match="Cannot resolve `oci:vendor.test/acme/base:1.0`"):
        lock_image_model(request, [client(registry)], MemoryStore(), lambda request: {})


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"m.gguf": {"place": "model.gguf", "sha256": Digest.of(b"new").hash}}, ""),
        ({"m.gguf": {"place": "model.gguf", "sha256": "0" * 64}}, "the lock says 000"),
        ({"n.gguf": {"place": "model.gguf", "sha256": "0" * 64}}, "no file `/models/n.gguf`"),
    ],
    ids=["right", "another", "absent"],
)
def test_locked_files_are_taken_out(registry: Registry, files: dict[str, Json], expected: str) -> None:
    digest = registry.tag("acme/base", "1.0", registry.image(MODELS)).removeprefix("sha256:")
    store = MemoryStore()
    tree = pull(registry, Lock("image", "all", (), (), image=BaseImage(NAME, Hash(digest))), store)
    request = ToolRequest({"folder": "models", "files": files}, {"layout": TreeContent(tree.digest, tree.root)}, store)
    try:
        (made,) = extract.assemble(request).values()
    except ForgeError as error:
        assert expected and expected in str(error)
        return

    assert isinstance(made, TreeContent)
    assert ["model.gguf"] == [path for path, _ in Tree.decode(store.read(made.tree)).files()]
    assert not expected
