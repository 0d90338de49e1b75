"""The tool `unpack`: a Debian package or a wheel becomes a tree.

params   format  `deb` or `wheel`
         python  for wheels: the minor version they go to, `3.11`
         site    for wheels: name of the folder in which that Python looks for packages, `dist-packages` unless told
         name    the file's name, for messages, and compared with what a wheel says of itself
inputs   file
outputs  tree
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, ToolRequest, TreeContent
from forge.core.tree import Entry, Tree, TreeError
from forge.packages import deb, wheel
from forge.packages.archive import ArchiveError, Intake

UNPACK_VERSION = "1"
"""Part of every key: raise it when the same package would give another tree."""

_PYTHON = re.compile(r"3\.\d+")


def unpack(request: ToolRequest) -> Mapping[str, Content]:
    """Unpack `file`; ActionFailed when it is damaged or hostile."""
    name = str(request.params.get("name") or "")
    file = request.inputs.get("file")
    if not isinstance(file, FileContent):
        raise ActionFailed("`unpack` takes one file, `file`", place=name)
    try:
        tree = Tree.of(_entries(request, file, name))
    except (ArchiveError, TreeError) as error:
        raise ActionFailed(str(error), place=name) from error
    return {"tree": TreeContent(request.store.put(tree.encoded), tree.root)}


def _entries(request: ToolRequest, file: FileContent, name: str) -> dict[str, Entry]:
    intake = Intake(request.store, request.progress, file.digest.size)
    with request.store.open(file.digest) as stream:
        match request.params.get("format"):
            case "deb":
                return deb.unpack(stream, intake)
            case "wheel":
                python = str(request.params.get("python") or "")
                if not _PYTHON.fullmatch(python):
                    raise ActionFailed(f"`{python}` is no Python version like `3.11`", place=name)
                site = str(request.params.get("site") or wheel.SITE)
                if site not in ("dist-packages", "site-packages"):
                    raise ActionFailed(f"`{site}` is no folder of packages", place=name)
                return wheel.unpack(stream, intake, python=python, file_name=name, site=site)
            case other:
                raise ActionFailed(f"Unknown format `{other}`, expected one of [deb, wheel]", place=name)
