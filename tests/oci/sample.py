"""Trees, layers and images for tests, made by the tools."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.tool import Content, FileContent, Json, ToolRequest, TreeContent
from forge.core.tree import Entries, Entry, File, Folder, Symlink, Tree
from forge.oci import image, layer
from tests.fakes.store import MemoryStore

PARAMS: Mapping[str, Json] = {
    "architecture": "amd64",
    "variant": "",
    "os": "linux",
    "user": "65532:65532",
    "env": ["PATH=/usr/bin", "LANG=C.UTF-8"],
    "entrypoint": ["/usr/bin/python3", "-m", "forge_runtime"],
    "cmd": ["serve"],
    "workdir": "/opt/forge/app",
    "ports": ["3000/tcp"],
    "labels": {"io.forge.platform": "cpu_llm_trf"},
    "annotations": {"org.opencontainers.image.title": "tiny_gpt2"},
    "created": "1970-01-01T00:00:00Z",
    "ref": "tiny_gpt2:cpu_llm_trf",
    "stop_signal": "SIGTERM",
    "volumes": [],
}


def base(store: BlobStore) -> dict[str, Entry]:
    """A small root file system with all that is hard in it."""
    return {
        "bin": Symlink("usr/bin"),
        "etc/passwd": File(store.put(b"forge:x:65532:65532::/:/bin/false\n")),
        "tmp": Folder(),
        "usr/bin/python3": File(store.put(b"\x7fELF" + bytes(2000)), executable=True),
        "usr/share/" + "/".join(["long" * 12] * 6): File(store.put(b"deep")),
        "usr/share/" + "n" * 180: File(store.put(b"long name")),
        "usr/share/gr\u00fc\u00dfe-\u65e5\u672c": File(store.put(b"names")),
        "usr/share/link": Symlink("../" + "far/" * 40),
        "var/tmp/empty": File(store.put(b"")),
    }


def tree_of(store: BlobStore, entries: Entries) -> TreeContent:
    """Put a tree."""
    tree = Tree.of(entries)
    store.put(tree.encoded)
    return TreeContent(tree.digest, tree.root)


def make_layer(
    store: BlobStore, entries: Entries, *, prefix: str = "", compression: str = "gzip"
) -> Mapping[str, Content]:
    """Run the tool on one tree."""
    params: dict[str, Json] = {"place": {"tree": prefix}, "compression": compression}
    return layer.assemble(ToolRequest(params, {"tree": tree_of(store, entries)}, store))


def make_image(store: BlobStore, layers: Sequence[Mapping[str, Content]], **params: Json) -> Tree:
    """Run the tool; the layout."""
    inputs: dict[str, Content] = {}
    for number, one in enumerate(layers):
        inputs[f"layer.{number}"], inputs[f"descriptor.{number}"] = one["layer"], one["descriptor"]
    history: list[Json] = [f"layer {number}" for number in range(len(layers))]
    made = image.assemble(ToolRequest({**PARAMS, "history": history, **params}, inputs, store))
    layout = made["layout"]
    assert isinstance(layout, TreeContent)
    return Tree.decode(store.read(layout.tree))


def sound(store: BlobStore) -> Tree:
    """A sound image of two layers, one compressed and one not."""
    weights = {"weights.bin": File(store.put(bytes(range(256)) * 40))}
    upper = make_layer(store, weights, prefix="opt/models", compression="none")
    return make_image(store, [make_layer(store, base(store)), upper])


def digests() -> dict[str, str]:
    """What golden files and other environments are compared with."""
    store = MemoryStore()
    layers = {name: make_layer(store, base(store), compression=name) for name in ("gzip", "none")}
    tree = sound(store)
    return {**{f"layer {name}": _digest(one["layer"]).oci for name, one in layers.items()}, "layout": tree.digest.oci}


def _digest(content: Content) -> Digest:
    assert isinstance(content, FileContent)
    return content.digest


if __name__ == "__main__":
    json.dump(digests(), sys.stdout)
