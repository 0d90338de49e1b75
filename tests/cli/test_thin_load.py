"""What an engine is given, by a program `docker` that keeps what it gets."""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from forge.cli.thin_load import load_thin
from forge.core.errors import HostError
from forge.execution.engine import Engine
from forge.oci.layout import blob_path
from forge.oci.summary import summarize
from tests.fakes.store import MemoryStore
from tests.oci.sample import base, make_image, make_layer

DOCKER = """\
#!{python}
import json, os, pathlib, sys
here = pathlib.Path({folder!r})
words = sys.argv[1:]
if words[:2] == ["image", "ls"]:
    print((here / "images").read_text())
elif words[:2] == ["image", "inspect"]:
    answers = json.loads((here / "inspected").read_text())
    print(answers[min(len(list(here.glob("*.tar"))), len(answers) - 1)])
elif words == ["load"]:
    number = len(list(here.glob("*.tar")))
    (here / f"{{number}}.tar").write_bytes(sys.stdin.buffer.read())
    codes = json.loads((here / "codes").read_text())
    print("lacks a blob", file=sys.stderr)
    sys.exit(codes[number])
"""


class Daemon:
    """An engine that answers what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = Engine({}, str(folder / "docker"))
        program = folder / "docker"
        program.write_text(DOCKER.format(python=sys.executable, folder=str(folder)))
        program.chmod(0o755)
        self.says(images="", inspected=[""], codes=[0, 0])

    def says(self, *, images: str, inspected: list[str], codes: list[int]) -> None:
        """Have it name an image by `inspected` before the first load, after it, and so on."""
        (self.folder / "images").write_text(images)
        (self.folder / "inspected").write_text(json.dumps(inspected))
        (self.folder / "codes").write_text(json.dumps(codes))

    def loaded(self) -> list[set[str]]:
        """Names in each archive that it got."""
        found = []
        for path in sorted(self.folder.glob("*.tar")):
            with tarfile.open(path) as archive:
                found.append(set(archive.getnames()))
        return found


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    return Daemon(tmp_path)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.mark.parametrize(
    ("code", "inspected", "loads"),
    [
        (0, lambda new: new, 1),
        (1, lambda new: new, 2),
        (0, lambda new: "sha256:" + "1" * 64, 2),
    ],
    ids=["taken", "refused", "another"],
)
def test_an_engine_gets_only_layers_that_it_lacks_and_all_when_it_wants_them(
    daemon: Daemon, store: MemoryStore, code: int, inspected: Callable[[str], str], loads: int
) -> None:
    shared = make_layer(store, base(store))
    first = make_image(store, [shared])
    second = make_image(store, [shared, make_layer(store, {"x": next(iter(base(store).values()))})])
    one, two = summarize(first, store), summarize(second, store)
    daemon.says(images=f"{one.manifest.oci}\n", inspected=["", inspected(two.manifest.oci)], codes=[code, 0])
    size = load_thin(daemon.engine, store, second, "a:x", daemon.engine.images())
    archives = daemon.loaded()

    assert loads == len(archives)
    assert blob_path(two.layers[0].digest) not in archives[0]
    assert {blob_path(two.layers[1].digest), blob_path(two.manifest), blob_path(two.config)} <= archives[0]
    assert loads == 1 or blob_path(two.layers[0].digest) in archives[1]
    assert size == sum(layer.digest.size for layer in two.layers[loads % 2 :])


@pytest.mark.parametrize("images", ["", f"sha256:{'1' * 64}", "config", "nonsense"])
def test_an_engine_of_which_nothing_is_known_gets_all(daemon: Daemon, store: MemoryStore, images: str) -> None:
    tree = make_image(store, [make_layer(store, base(store))])
    summary = summarize(tree, store)
    daemon.says(images=summary.config.oci if images == "config" else images, inspected=[""], codes=[0])

    assert summary.layers[0].digest.size == load_thin(daemon.engine, store, tree, "a:x", daemon.engine.images())
    assert blob_path(summary.layers[0].digest) in daemon.loaded()[0]


def test_what_an_engine_says_is_passed_on(daemon: Daemon, store: MemoryStore) -> None:
    daemon.says(images="", inspected=[""], codes=[3])

    with pytest.raises(HostError, match="load` ends with 3: lacks a blob"):
        load_thin(daemon.engine, store, make_image(store, [make_layer(store, base(store))]), "a:x", [])


def test_without_docker_it_is_said_what_else_does(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be run: No such file") as caught:
        Engine({}, str(tmp_path / "docker")).images()
    assert "forge image export" in str(caught.value)


def test_an_engine_that_has_the_image_by_its_name_gets_nothing(daemon: Daemon, store: MemoryStore) -> None:
    tree = make_image(store, [make_layer(store, base(store))])
    manifest = summarize(tree, store).manifest.oci
    daemon.says(images=f"{manifest}\n", inspected=[manifest], codes=[])
    assert load_thin(daemon.engine, store, tree, "an:image", [manifest]) == 0
    assert daemon.loaded() == []
