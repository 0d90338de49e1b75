"""Indexes over images of several architectures."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from forge.core.digest import Digest
from forge.core.errors import ActionFailed
from forge.core.tool import FileContent, Json, ToolRequest, TreeContent
from forge.core.tree import File, Tree
from forge.oci.check import ImageError
from forge.oci.export import export_docker_index, export_oci
from forge.oci.index import assemble, summarize_index
from forge.oci.summary import summarize
from forge.oci.validate import validate_all
from tests.fakes.store import MemoryStore
from tests.oci.sample import base, make_image, make_layer
from tests.oci.test_docker import need, run

REF = "forge_oci_test:index_of_deps"
PARAMS: dict[str, Json] = {"platforms": ["cpu", "arm"], "ref": REF, "annotations": {"owner": "us"}}


def image(store: MemoryStore, arch: str) -> Tree:
    shared = make_layer(store, base(store))
    own = make_layer(store, {"arch": File(store.put(arch.encode()))})
    return make_image(store, [shared, own], architecture=arch)


def made(store: MemoryStore, *images: Tree, **params: Json) -> tuple[Tree, Any]:
    inputs = {f"layout.{number}": TreeContent(each.digest, each.root) for number, each in enumerate(images)}
    found = assemble(ToolRequest({**PARAMS, **params}, inputs, store))
    layout, digest = found["layout"], found["digest"]
    assert isinstance(layout, TreeContent) and isinstance(digest, FileContent)
    return Tree.decode(store.read(layout.tree)), json.loads(store.read(digest.digest))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def index(store: MemoryStore) -> Tree:
    return made(store, image(store, "amd64"), image(store, "arm64"))[0]


def test_it_lies_below_the_layout_s_own_and_names_each_machine(store: MemoryStore) -> None:
    one, other = image(store, "amd64"), image(store, "arm64")
    tree, said = made(store, one, other)
    found = summarize_index(tree, store)
    document = json.loads(store.read(found.digest))

    assert said["manifest"] == found.digest.oci and (found.ref, found.annotations) == (REF, {"owner": "us"})
    assert [row["platform"] for row in document["manifests"]] == [
        {"architecture": arch, "os": "linux"} for arch in ("amd64", "arm64")
    ]
    assert [row["digest"] for row in document["manifests"]] == [
        summarize(each, store).manifest.oci for each in (one, other)
    ]
    assert [row["annotations"] for row in document["manifests"]] == [
        {"io.forge.platform": name} for name in ("cpu", "arm")
    ]


def test_every_blob_is_sound_and_shared_ones_are_there_once(store: MemoryStore, index: Tree) -> None:
    images = validate_all(index, store)
    shared = {images[0].layers[0].digest, images[1].layers[0].digest}

    assert [each.architecture for each in images] == ["amd64", "arm64"]
    assert len(shared) == 1
    assert len(index.entries) == 2 + 1 + 2 * (2 + 2) - 1


@pytest.mark.parametrize(
    ("archs", "params", "expected"),
    [
        (("amd64", "amd64"), {}, "`arm` is for {'architecture': 'amd64', 'os': 'linux'}, and another image for"),
        (("amd64",), {}, "for 2 platforms"),
        (("amd64", "arm64"), {"ref": "No Name"}, "`ref` is `No Name`, no name of an image"),
        (("amd64", "arm64"), {"tag": "x"}, "Unknown key `tag`"),
    ],
)
def test_refuses_what_is_no_index(
    store: MemoryStore, archs: tuple[str, ...], params: dict[str, Json], expected: str
) -> None:
    with pytest.raises(ActionFailed) as caught:
        made(store, *(image(store, arch) for arch in archs), **params)

    assert expected in str(caught.value)


def test_an_image_alone_is_no_index(store: MemoryStore) -> None:
    with pytest.raises(ImageError, match="no index of several images"):
        summarize_index(image(store, "amd64"), store)


def test_an_exported_index_is_the_layout(store: MemoryStore, index: Tree) -> None:
    out = io.BytesIO()
    export_oci(index, store, out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        names = {member.name for member in archive if member.isreg()}

    assert set(index.entries) == names


@pytest.mark.docker
def test_docker_takes_it_under_one_name_with_its_digest(store: MemoryStore, index: Tree, tmp_path: Path) -> None:
    need("Docker's command", shutil.which("docker") is not None)
    probe = subprocess.run(["docker", "version"], capture_output=True, timeout=20, check=False)
    need("A Docker engine", probe.returncode == 0)
    archive = tmp_path / "index.tar"
    with archive.open("wb") as out:
        export_docker_index(index, store, out, REF)
    try:
        run("docker", "load", "--input", str(archive))
        found = json.loads(run("docker", "image", "inspect", REF))[0]
    finally:
        subprocess.run(["docker", "image", "rm", "--force", REF], capture_output=True, check=False)

    assert found["Id"] == summarize_index(index, store).digest.oci


@pytest.mark.docker
def test_skopeo_reads_it_from_the_folder(store: MemoryStore, index: Tree, tmp_path: Path) -> None:
    need("skopeo", shutil.which("skopeo") is not None)
    for path, entry in index.entries.items():
        assert isinstance(entry, File)
        target = tmp_path / "layout" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.read(entry.digest))
    raw = run("skopeo", "inspect", "--raw", f"oci:{tmp_path}/layout")
    arm = json.loads(run("skopeo", "--override-arch=arm64", "inspect", "--config", f"oci:{tmp_path}/layout"))

    assert Digest.of(raw.encode()) == summarize_index(index, store).digest
    assert arm["architecture"] == "arm64"
