"""The tool `extract`: files of an image's folder become a tree, by forge's own reader; nothing is unpacked to a disk.

params   folder   below which they lie
         files    path below it -> {place, sha256}: where it goes in the tree, and what it must be
inputs   layout
outputs  tree
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from forge.core.errors import ActionFailed
from forge.core.tool import Content, ToolRequest, TreeContent
from forge.core.tree import Entry, File, Tree
from forge.oci.check import Check
from forge.oci.flatten import flatten

EXTRACT_VERSION: Final = "1"
"""Goes into keys. Count up when the same request would give another tree."""


def files_below(tree: Tree, folder: str) -> dict[str, File]:
    """List the regular files of a folder by their paths below it."""
    prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
    return {path.removeprefix(prefix): file for path, file in tree.files() if path.startswith(prefix)}


def assemble(request: ToolRequest) -> Mapping[str, Content]:
    """Make the tree; ActionFailed when a file is missing or another than is locked."""
    given = request.inputs.get("layout")
    if not isinstance(given, TreeContent):
        raise ActionFailed("`extract` needs the folder `layout`")
    check = Check("extract")
    folder = check.text(request.params.get("folder"), "folder")
    wanted = check.object(request.params.get("files"), "files")
    there = files_below(flatten(Tree.decode(request.store.read(given.tree)), request.store), folder)
    entries: dict[str, Entry] = {}
    for path, value in wanted.items():
        said = check.pairs(value, path)
        found = there.get(path)
        if found is None:
            check.fault(f"The image has no file `/{folder}/{path}`", "Lock the model anew: `forge lock --upgrade`")
        elif found.digest.hash != said.get("sha256"):
            check.fault(f"`/{folder}/{path}` has sha256 {found.digest.hash}, the lock says {said.get('sha256')}")
        else:
            entries[said.get("place", path)] = File(found.digest)
    check.finish(ActionFailed)
    tree = Tree.of(entries)
    return {"tree": TreeContent(request.store.put(tree.encoded), tree.root)}
