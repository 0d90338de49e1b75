"""Archives of layouts."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

import pytest

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.errors import UsageError
from forge.core.tree import File, Tree
from forge.oci.export import export_docker, export_oci
from forge.oci.summary import summarize
from forge.oci.validate import validate
from tests.fakes.store import MemoryStore
from tests.oci.sample import base, make_image, make_layer, sound

Export = Callable[[Tree, BlobStore, BinaryIO], None]


def docker(layout: Tree, store: BlobStore, out: BinaryIO) -> None:
    export_docker(layout, store, out, "tiny_gpt2:cpu_llm_trf")


def export(layout: Tree, store: BlobStore, how: Export = export_oci) -> bytes:
    out = io.BytesIO()
    how(layout, store, out)
    return out.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        bodies = {member.name: archive.extractfile(member) for member in archive if member.isreg()}
    return {name: body.read() for name, body in bodies.items() if body}


def test_an_exported_layout_is_the_layout() -> None:
    store, other = MemoryStore(), MemoryStore()
    layout = sound(store)
    files = unpack(export(layout, store))
    again = Tree.of({path: File(other.put(data)) for path, data in files.items()})

    assert again.root == layout.root
    assert validate(again, other) == summarize(layout, store)


def test_a_docker_archive_has_all_that_docker_looks_for() -> None:
    store = MemoryStore()
    layout = sound(store)
    files = unpack(export(layout, store, docker))
    image = summarize(layout, store)

    assert json.loads(files["manifest.json"]) == [
        {
            "Config": f"blobs/sha256/{image.config.hash}",
            "Layers": [f"blobs/sha256/{layer.digest.hash}" for layer in image.layers],
            "RepoTags": ["tiny_gpt2:cpu_llm_trf"],
        }
    ]
    for layer in image.layers:
        assert Digest.of(files[f"blobs/sha256/{layer.digest.hash}"]) == layer.digest
    named: dict[str, Any] = json.loads(files["index.json"])["manifests"][0]
    assert named["digest"] == image.manifest.oci
    assert named["annotations"]["io.containerd.image.name"].endswith("/library/tiny_gpt2:cpu_llm_trf")


@pytest.mark.parametrize("how", [export_oci, docker], ids=["oci", "docker"])
def test_two_exports_are_the_same_bytes(how: Export) -> None:
    one, two = MemoryStore(), MemoryStore()

    assert export(sound(one), one, how) == export(sound(two), two, how)


def test_an_export_puts_nothing_into_the_store() -> None:
    store = MemoryStore()
    layout = sound(store)
    before = dict(store.blobs)
    export(layout, store, docker)

    assert store.blobs == before


def test_an_unbuffered_pipe_gets_everything() -> None:
    store = MemoryStore()
    weights = File(store.put(bytes(range(256)) * 5000))
    layout = make_image(store, [make_layer(store, {**base(store), "w": weights}, compression="none")])
    reading, writing = os.pipe()
    got = bytearray()

    def drain() -> None:
        with open(reading, "rb") as source:
            got.extend(source.read())

    thread = threading.Thread(target=drain)
    thread.start()
    with open(writing, "wb", buffering=0) as sink:
        export_oci(layout, store, sink)
    thread.join()

    assert bytes(got) == export(layout, store)


@pytest.mark.parametrize("ref", ["", "Upper:tag", "a b", "name:", "name:tag:tag", "/name", "host:5000/"])
def test_a_wrong_name_is_refused(ref: str) -> None:
    store = MemoryStore()

    with pytest.raises(UsageError, match="no name of an image"):
        export_docker(sound(store), store, io.BytesIO(), ref)
