"""The tool `inspect`: looks at an image's files and configuration, and runs nothing of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

from forge.core.blob import BlobStore
from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, Json, ToolRequest, TreeContent
from forge.core.tree import Entry, File, Folder, Symlink, Tree
from forge.oci import document
from forge.oci.check import Check
from forge.oci.summary import single, summarize_all

INSPECT_VERSION: Final = "1"
"""Goes into keys. Count up when the same image could get another verdict."""
_LINKS = 40
"""Symbolic links on the way to a file, as Linux follows them."""
_LARGEST = 64 << 20
"""Bytes of a file in which text is looked for."""


def inspect(request: ToolRequest) -> Mapping[str, Content]:
    """Compare an image with what is expected of it; ActionFailed, with the report, where it differs.

    Inputs: `layout`, and `root`, the image's file system as a tree.
    Parameters: `files`, by path: `exists`, and where they are given `kind`, `executable`, `sha256`, `contains`;
    `config`: `user`, `workdir`, `entrypoint`, `cmd` (equal), `env`, `labels`, `ports` (contained), as given.
    Output: `report.json`, as the rule `test` has it.
    """
    layout, root = (_tree(request, name) for name in ("layout", "root"))
    check = Check("config")
    config = check.document(request.store.read(single(summarize_all(layout, request.store)).config))
    own = check.object(config.get("config", {}), "config")
    files = check.object(request.params.get("files", {}), "files")
    expected = check.object(request.params.get("config", {}), "config")
    check.finish(ActionFailed)
    verdicts = {name: _config(name, wanted, own) for name, wanted in sorted(expected.items())}
    for path, wanted in sorted(files.items()):
        assert isinstance(wanted, dict)
        verdicts[path] = _file(wanted, _look_up(root, path), request.store)
    cases = [{"name": name, "passed": not text, "message": text} for name, text in verdicts.items()]
    passed = not any(verdicts.values())
    report = (json.dumps({"passed": passed, "cases": cases}, indent=2, sort_keys=True) + "\n").encode()
    if not passed:
        failed = [f"{name}: {text}" for name, text in verdicts.items() if text]
        hint = "`forge image inspect` shows the configuration, `forge image export` gives the files"
        text = f"{len(failed)} of {len(verdicts)} expectations are not met"
        error = ActionFailed(text, hint=hint, log="\n".join(f"FAILED: {line}" for line in failed))
        error.left = {"report.json": report}
        raise error
    return {"report.json": FileContent(request.store.put(report))}


def _tree(request: ToolRequest, name: str) -> Tree:
    content = request.inputs[name]
    assert isinstance(content, TreeContent)
    return Tree.decode(request.store.read(content.tree))


def _config(name: str, wanted: Json, own: Mapping[str, Json]) -> str:
    key = {"user": "User", "workdir": "WorkingDir", "entrypoint": "Entrypoint", "cmd": "Cmd", "labels": "Labels"}
    if name in ("user", "workdir", "entrypoint", "cmd"):
        found = own.get(key[name]) or ([] if isinstance(wanted, list) else "")
        return "" if found == wanted else f"Is {_shown(found)}, expected {_shown(wanted)}"
    if name == "ports":
        exposed = own.get("ExposedPorts") or {}
        assert isinstance(exposed, dict) and isinstance(wanted, list)
        missing = [each for each in wanted if f"{each}/tcp" not in exposed]
        return f"No {_shown(missing)} in {_shown(sorted(exposed))}" if missing else ""
    environ = own.get("Env") or []
    assert isinstance(environ, list) and isinstance(wanted, dict)
    pairs = dict(str(each).partition("=")[::2] for each in environ)
    table = pairs if name == "env" else own.get("Labels") or {}
    assert isinstance(table, dict)
    wrong = [
        f"`{each}` is {_shown(table.get(each))}, expected {_shown(value)}"
        for each, value in sorted(wanted.items())
        if table.get(each) != value
    ]
    return "; ".join(wrong)


def _file(wanted: Mapping[str, Json], entry: Entry | None, store: BlobStore) -> str:
    if not wanted["exists"]:
        return "" if entry is None else f"Is there, a {_kind(entry)}"
    if entry is None:
        return "Is not there"
    return next(_faults(wanted, entry, store), "")


def _faults(wanted: Mapping[str, Json], entry: Entry, store: BlobStore) -> Iterator[str]:
    kind = wanted.get("kind") or ("file" if wanted.keys() & {"executable", "sha256", "contains"} else "")
    if kind and kind != _kind(entry):
        yield f"Is a {_kind(entry)}, expected a {kind}"
    if not isinstance(entry, File):
        return
    if wanted.get("executable", entry.executable) != entry.executable:
        yield "Is not executable" if wanted["executable"] else "Is executable"
    if wanted.get("sha256", entry.digest.hash) != entry.digest.hash:
        yield f"Has SHA-256 {entry.digest.hash}, expected {wanted['sha256']}"
    if "contains" in wanted:
        if entry.digest.size > _LARGEST:
            yield f"Has {entry.digest.size} bytes: text is looked for in {_LARGEST} at most"
        elif str(wanted["contains"]).encode() not in store.read(entry.digest):
            yield f"Does not contain {_shown(wanted['contains'])}"


def _look_up(tree: Tree, path: str) -> Entry | None:
    """Find what a program that opens `path` sees; None where there is nothing, or links go round."""
    folders, links = tree.folders(), 0
    pending, at = [part for part in reversed(path.split("/")) if part], ""
    entry: Entry | None = Folder()
    while pending:
        part = pending.pop()
        if part in (".", ".."):
            at = at.rpartition("/")[0] if part == ".." else at
            continue
        step = f"{at}/{part}".lstrip("/")
        entry = tree.entries.get(step) or (Folder() if step in folders else None)
        if isinstance(entry, Symlink):
            links += 1
            if links > _LINKS:
                return None
            at = "" if entry.target.startswith("/") else at
            pending += [each for each in reversed(entry.target.split("/")) if each]
            entry = Folder()
        elif entry is None or (isinstance(entry, File) and pending):
            return None
        else:
            at = step
    return tree.entries.get(at) or entry


def _kind(entry: Entry) -> str:
    return "file" if isinstance(entry, File) else "folder"


def _shown(value: object) -> str:
    return document.encode(value).decode()
