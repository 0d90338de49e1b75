"""The executor's own tools: a file with a given text, and trees out of files and other trees.

write   params `text`, `output`; gives that file
tree    params `place` (input -> path: a tree lies below it, a file is it), `replace` (the later input wins);
        gives `tree`, under whatever name the action declares
"""

from __future__ import annotations

from collections.abc import Mapping

from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, ToolRequest, TreeContent
from forge.core.tree import Entry, File, Tree, TreeError, merge, under

WRITE_VERSION = "1"
TREE_VERSION = "1"


def write(request: ToolRequest) -> Mapping[str, Content]:
    """Make a file."""
    return {str(request.params["output"]): FileContent(request.store.put(str(request.params["text"]).encode()))}


def tree(request: ToolRequest) -> Mapping[str, Content]:
    """Lay inputs out; ActionFailed when two of them claim one path."""
    places = request.params["place"]
    assert isinstance(places, dict)
    layers: list[dict[str, Entry]] = []
    for name, content in request.inputs.items():
        place = str(places[name]).strip("/")
        if isinstance(content, FileContent):
            layers.append({place: File(content.digest, content.executable)})
        else:
            layers.append(under(place, Tree.decode(request.store.read(content.tree)).entries))
    try:
        made = Tree.of(merge(layers, replace=bool(request.params.get("replace"))))
    except TreeError as error:
        raise ActionFailed(str(error)) from error
    request.store.put(made.encoded)
    return {"tree": TreeContent(made.digest, made.root)}
