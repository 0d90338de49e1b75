"""Loading an image into an engine that has some of its layers."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from forge.core.blob import BlobStore
from forge.core.digest import Digest, Hash
from forge.core.errors import HostError
from forge.core.tool import TreeContent
from forge.core.tree import Tree
from forge.execution.docker_executor import TESTED
from forge.execution.engine import Engine
from forge.execution.store import LocalStore
from forge.oci.check import Check
from forge.oci.document import LIMIT
from forge.oci.export import export_docker
from forge.oci.manifest import Manifest
from forge.oci.summary import summarize


def load_thin(engine: Engine, store: BlobStore, tree: Tree, name: str, present: Iterable[str]) -> int:
    """Load one image, without the layers that the engine has if that does; how many bytes of layers went over."""
    summary = summarize(tree, store)
    if engine.image(name) == summary.manifest.oci:
        return 0
    layers = {layer.digest for layer in summary.layers}
    had = layers & _layers(store, present)
    if had:
        with suppress(HostError):
            engine.load(lambda out: export_docker(tree, store, out, name, without=had))
            if engine.image(name) == summary.manifest.oci:
                return sum(digest.size for digest in layers - had)
    engine.load(lambda out: export_docker(tree, store, out, name))
    return sum(digest.size for digest in layers)


def load_tested(engine: Engine, store: LocalStore, layout: TreeContent) -> str:
    """Load the image of a layout, unless the engine has it, under a name that says its content; that name."""
    name = f"{TESTED}:{layout.root.hash}"
    if not engine.image(name):
        load_thin(engine, store, Tree.decode(store.read(layout.tree)), name, engine.images())
    return name


def _layers(store: BlobStore, present: Iterable[str]) -> set[Digest]:
    """List the layers of an engine's images, as far as they are forge's: who made one has its manifest.

    An index says nothing: an engine that pulled it has the images of its own architecture alone.
    """
    found: set[Digest] = set()
    for each in present:
        with suppress(ValueError):
            digest = store.find(Hash(each.removeprefix("sha256:")))
            if digest is not None and digest.size <= LIMIT:
                check = Check("manifest")
                manifest = Manifest.decode(check, store.read(digest))
                if manifest is not None and not check.faults:
                    found.update(layer.digest for layer in manifest.layers)
    return found
