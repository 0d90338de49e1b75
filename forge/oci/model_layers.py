"""The tool `model_layers`: a model's folder becomes one layer per weights file and one for the rest.

Weights are not compressed: they are noise to a compressor, and as plain tar they are kept once, as the
file that they are, with the layer as a recipe around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, ToolRequest, TreeContent
from forge.core.tree import Entry, File, Tree
from forge.oci import layer

THRESHOLD: Final = 1 << 20
"""Bytes: a file over this is a layer of its own."""


def assemble(request: ToolRequest) -> Mapping[str, Content]:
    """Make the layers of the input `content`, placed as the parameter `place` says.

    Output: a folder `layers` with `NNN/layer` and `NNN/descriptor`, small files first, then weights by path.
    """
    content = request.inputs.get("content")
    if not isinstance(content, TreeContent):
        raise ActionFailed("A model must be a folder")
    entries = Tree.decode(request.store.read(content.tree)).entries
    large = [path for path, entry in entries.items() if isinstance(entry, File) and entry.digest.size > THRESHOLD]
    small = {path: entry for path, entry in entries.items() if path not in large}
    groups: list[tuple[dict[str, Entry], str]] = [(small, "gzip")] if small else []
    groups += [({path: entries[path]}, "none") for path in large]
    if not groups:
        raise ActionFailed("The model's folder is empty")
    made: dict[str, Entry] = {}
    for number, (group, compression) in enumerate(groups):
        tree = Tree.of(group)
        request.store.put(tree.encoded)
        params = {"place": request.params["place"], "compression": compression}
        inputs: dict[str, Content] = {"content": TreeContent(tree.digest, tree.root)}
        for name, output in layer.assemble(ToolRequest(params, inputs, request.store, request.progress)).items():
            assert isinstance(output, FileContent)
            made[f"{number:03}/{name}"] = File(output.digest)
    folder = Tree.of(made)
    request.store.put(folder.encoded)
    return {"layers": TreeContent(folder.digest, folder.root)}
