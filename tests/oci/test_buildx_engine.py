"""The tools `buildx` and `dockerfile` with a real BuildKit: the same digest twice, and every step from a cache."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from forge.core.tool import Content, FileContent, Json, ToolRequest, TreeContent
from forge.core.tree import Entry, File, Symlink, Tree
from forge.execution.buildx import Buildx, BuildxSettings
from forge.execution.process import ProcessGroup
from forge.execution.store import LocalStore
from forge.oci import buildx, dockerfile, image
from forge.oci.flatten import flatten
from forge.oci.summary import ImageSummary, summarize, summarize_all
from tests.oci.sample import PARAMS, base, make_layer
from tests.oci.test_buildx import TEMPLATE, config_of

pytestmark = pytest.mark.docker

REGISTRY = os.environ.get("FORGE_TEST_REGISTRY", "127.0.0.1:5000")
ARCHITECTURES = ("amd64", "arm64")
_STEP = re.compile(r"^#(\d+) \[.*\b\d+/\d+\] (?:COPY|RUN) .*$", re.MULTILINE)


class Engine:
    """A store, and what runs buildx on this machine's engine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = LocalStore(folder / "home")
        self.nonce = uuid.uuid4().hex
        self.layers: dict[str, list[Mapping[str, Content]]] = {}

    def runner(self, *, cache_from: tuple[str, ...] = (), cache_to: tuple[str, ...] = ()) -> Buildx:
        name = os.environ.get("FORGE_TEST_BUILDER", "")
        chosen = BuildxSettings(name, cache_from=cache_from, cache_to=cache_to)
        return Buildx(self.store, chosen, os.environ, ProcessGroup(), self.folder / "logs")

    def caches(self, kind: str) -> tuple[str, str]:
        """Name a cache that nobody has used, as `--cache-to` and as `--cache-from` take it."""
        if kind == "registry":
            ref = f"type=registry,ref={REGISTRY}/buildx/{self.nonce}"
            return ref, ref
        return f"type=local,dest={self.folder / 'cache'}", f"type=local,src={self.folder / 'cache'}"

    def request(self, arch: str, **params: Json) -> ToolRequest:
        """Ask for an image of three layers, which no builder has seen before."""
        if arch not in self.layers:
            own: dict[str, Entry] = {
                "arch": File(self.store.put(f"{arch} {self.nonce}".encode())),
                "usr/share/link": Symlink("/arch"),
            }
            config: dict[str, Entry] = {"config.json": File(self.store.put(f'{{"is": "{self.nonce}"}}'.encode()))}
            self.layers[arch] = [
                make_layer(self.store, base(self.store)),
                make_layer(self.store, own, compression="none"),
                make_layer(self.store, config, prefix="etc/forge"),
            ]
        inputs: dict[str, Content] = {}
        for number, one in enumerate(self.layers[arch]):
            inputs[f"layer.{number}"], inputs[f"descriptor.{number}"] = one["layer"], one["descriptor"]
        known: dict[str, Json] = {**PARAMS, "architecture": arch, "history": ["a", "b", "c"], "volumes": ["/tmp"]}
        return ToolRequest({**known, "ref": f"forge-test:{arch}", **params}, inputs, self.store)

    def by_buildx(self, arch: str, runner: Buildx, **params: Json) -> Tree:
        request = self.request(arch, **params)
        template = FileContent(self.store.put(TEMPLATE.read_bytes()))
        asked = ToolRequest(request.params, {**request.inputs, "template": template}, self.store)
        return self.layout(buildx.assemble(runner, asked))

    def embedded(self, arch: str) -> Tree:
        return self.layout(image.assemble(self.request(arch)))

    def layout(self, made: Mapping[str, Content]) -> Tree:
        found = made["layout"]
        assert isinstance(found, TreeContent)
        return Tree.decode(self.store.read(found.tree))

    def log(self, name: str) -> str:
        return (self.folder / f"logs/{name}.log").read_text()


def cached(log: str) -> dict[str, bool]:
    """Say of each step whether it came from a cache: BuildKit says so, or shows how its layer comes down from there."""
    return {found[0]: f"#{found[1]} CACHED" in log or f"#{found[1]} sha256:" in log for found in _STEP.finditer(log)}


def records() -> list[str]:
    """List what the builder keeps."""
    command = ["docker", "buildx", "du", "--verbose", *_builder()]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return re.findall(r"^ID:\s*(\S+)", said, re.MULTILINE)


@contextmanager
def emptied() -> Iterator[None]:
    """Let the builder forget what came to it in the block: others may use it too, so no more than that."""
    before = set(records())
    yield
    for _ in range(10):  # a record goes once nothing is based on it
        fresh = [each for each in records() if each not in before]
        for each in fresh:
            prune = ["docker", "buildx", "prune", "--force", "--all", f"--filter=id={each}", *_builder()]
            subprocess.run(prune, capture_output=True, check=True, timeout=60)
        if not fresh:
            return


def _builder() -> list[str]:
    name = os.environ.get("FORGE_TEST_BUILDER")
    return [f"--builder={name}"] if name else []


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    present = shutil.which("docker") is not None
    if present:
        present = subprocess.run(["docker", "buildx", "inspect"], capture_output=True, check=False).returncode == 0
    if not present and os.environ.get("FORGE_REQUIRE_DOCKER") == "1":
        pytest.fail("buildx is required and does not answer")
    if not present:
        pytest.skip("buildx does not answer")
    return Engine(tmp_path)


def blobs(summary: ImageSummary) -> list[str]:
    return [layer.digest.oci for layer in summary.layers]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_image_is_the_embedded_one_and_the_same_each_time(engine: Engine, arch: str) -> None:
    own = engine.embedded(arch)
    with emptied():
        first = engine.by_buildx(arch, engine.runner(), labels={"a": "b\nUSER 0"})
    second = engine.by_buildx(arch, engine.runner(), labels={"a": "b\nUSER 0"})
    plain = engine.by_buildx(arch, engine.runner())

    assert summarize(first, engine.store).manifest == summarize(second, engine.store).manifest
    assert blobs(summarize(own, engine.store)) == blobs(summarize(plain, engine.store))
    assert config_of(own, engine.store) == config_of(plain, engine.store)
    assert flatten(own, engine.store).root == flatten(plain, engine.store).root


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("kind", ["local", "registry"])
def test_a_stage_a_layer_comes_from_the_cache_of_another_builder(engine: Engine, kind: str, arch: str) -> None:
    written, read = engine.caches(kind)
    with emptied():
        first = engine.by_buildx(arch, engine.runner(cache_to=(f"{written},mode=max",)), stages=True)
        ran = cached(engine.log(f"forge-test-{arch}"))
    runner = engine.runner(cache_from=(read,))
    second = engine.by_buildx(arch, runner, stages=True)
    found = cached(engine.log(f"forge-test-{arch}"))

    assert (2, False) == (len(ran), any(ran.values())), ran
    assert (2, True) == (len(found), all(found.values())), found
    assert first.digest == second.digest
    assert flatten(engine.embedded(arch), engine.store).root == flatten(second, engine.store).root


OWN = """\
FROM base AS work
COPY hello.txt /srv/hello.txt
FROM base
COPY --from=work /srv /srv
COPY --from=more name /srv/name
LABEL own="{nonce}"
"""


def test_a_dockerfile_of_two_architectures_is_one_index_and_all_of_it_comes_from_a_cache(engine: Engine) -> None:
    store, cache = engine.store, engine.folder / "cache"
    inputs: dict[str, Content] = {"dockerfile": FileContent(store.put(OWN.format(nonce=engine.nonce).encode()))}
    for number, arch in enumerate(ARCHITECTURES):
        tree = engine.embedded(arch)
        store.put(tree.encoded)
        inputs[f"images/base/{number}"] = TreeContent(tree.digest, tree.root)
    inputs["context/hello.txt"] = FileContent(store.put(engine.nonce.encode()))
    inputs["files/more/name"] = FileContent(store.put(b"more"))
    params: dict[str, Json] = {"architectures": [*ARCHITECTURES], "created": "1970-01-01T00:00:00Z", "path": "D"}
    asked = ToolRequest({**params, "ref": "forge-test:own"}, inputs, store)
    with emptied():
        runner = engine.runner(cache_to=(f"type=local,dest={cache},mode=max",))
        first = engine.layout(dockerfile.build(runner, asked))
    runner = engine.runner(cache_from=(f"type=local,src={cache}",))
    second = engine.layout(dockerfile.build(runner, asked))
    found = cached(engine.log("forge-test-own"))
    images = summarize_all(second, store)

    assert first.digest == second.digest
    assert [each.architecture for each in images] == [*ARCHITECTURES]
    assert found and all(found.values()), found
    assert all(any(f"linux/{arch}" in step for step in found) for arch in ARCHITECTURES), found
    index = json.loads(store.read(second.entries["index.json"].digest))  # type: ignore[union-attr]
    assert "application/vnd.oci.image.index.v1+json" == index["manifests"][0]["mediaType"]
