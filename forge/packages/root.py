"""The tool `root`: trees laid over one another become one root file system.

params   conflicts         `refuse` (default) or `replace`: what becomes of two different files under one name;
                           debs own their paths, of wheels the later one wins, as with pip
         synthesize        true: add what maintainer scripts would have made (see synthesis.py)
         busybox_applets   true: with `synthesize`, link busybox's applets where nothing else has the name
         mount_points      folders to make
         name              whose root it is, for messages
inputs   any number of trees, by name, lowest first
outputs  tree
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from forge.core.errors import ActionFailed
from forge.core.tool import Content, Json, ToolRequest, TreeContent
from forge.core.tree import Entries, Entry, Folder, Tree, TreeError
from forge.packages.synthesis import synthesize

ROOT_VERSION = "1"
"""Part of every key: raise it when the same trees would give another root."""


def root(request: ToolRequest) -> Mapping[str, Content]:
    """Merge the input trees; ActionFailed names the path and the two inputs that do not go together."""
    params = request.params
    place = str(params.get("name") or "")
    conflicts = params.get("conflicts", "refuse")
    if conflicts not in ("refuse", "replace"):
        raise ActionFailed(f"Unknown `conflicts`: `{conflicts}`, expected one of [refuse, replace]", place=place)
    try:
        merge = _Merge(replace=conflicts == "replace")
        for name, content in request.inputs.items():
            merge.add(name, _read(request, name, content))
        merge.check()
        if params.get("synthesize"):
            made = synthesize(merge.entries, request.store, applets=bool(params.get("busybox_applets")))
            merge.add("what forge synthesises", made)
        merge.add("mount points", _mount_points(params.get("mount_points")))
        merge.check()
        tree = Tree.of(merge.entries)
    except TreeError as error:
        raise ActionFailed(str(error), place=place) from error
    return {"tree": TreeContent(request.store.put(tree.encoded), tree.root)}


@dataclass(slots=True)
class _Merge:
    """Entries so far, and which input brought each."""

    replace: bool
    entries: dict[str, Entry] = field(default_factory=dict)
    _owners: dict[str, str] = field(default_factory=dict)

    def add(self, owner: str, layer: Entries) -> None:
        entries, owners = self.entries, self._owners
        for path, entry in layer.items():
            present = entries.get(path)
            # A folder gives way: a link may stand in its place as long as nothing is put below it.
            if present is not None and present != entry and not isinstance(present, Folder):
                if isinstance(entry, Folder):
                    continue
                if not self.replace:
                    raise TreeError(f"`{path}` comes from `{owners[path]}` and from `{owner}`, and differs")
            entries[path] = entry
            owners[path] = owner

    def check(self) -> None:
        """Refuse a path below something that is no folder."""
        sound = {""}
        for path in self.entries:
            parent = posixpath.dirname(path)
            while parent not in sound:
                if not isinstance(self.entries.get(parent, Folder()), Folder):
                    above, below = self._owners[parent], self._owners[path]
                    raise TreeError(f"`{path}` from `{below}` lies below `{parent}`, which is no folder in `{above}`")
                sound.add(parent)
                parent = posixpath.dirname(parent)


def _read(request: ToolRequest, name: str, content: Content) -> Entries:
    if not isinstance(content, TreeContent):
        raise TreeError(f"`{name}` is a file, expected a tree")
    try:
        return Tree.decode(request.store.read(content.tree)).entries
    except ValueError as error:
        raise TreeError(f"`{name}` is no tree: {error}") from error


def _mount_points(paths: Json) -> dict[str, Entry]:
    if not isinstance(paths, list):
        paths = [] if paths is None else [paths]
    folders: dict[str, Entry] = {}
    for path in paths:
        if not isinstance(path, str) or not path.strip("/"):
            raise TreeError(f"`{path}` is no mount point")
        folders[path.strip("/")] = Folder()
    return folders
