"""Locking a model that is in an image: the image's digest, and that of each wanted file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from forge.core.blob import BlobStore
from forge.core.errors import MaterialError
from forge.core.lock import EVERY_ARCH, Lock
from forge.core.lock_text import LockError, parse
from forge.core.model_source import ImageSource, ModelRequest, choose
from forge.core.tool import FileContent, Tool, ToolRequest, TreeContent
from forge.core.tree import Tree
from forge.net.connection import Unavailable
from forge.oci.extract import files_below
from forge.oci.flatten import flatten
from forge.oci.registry import Document, Registry


def lock_image_model(
    request: ModelRequest,
    registries: Iterable[Registry],
    store: BlobStore,
    pull: Tool,
    *,
    previous: Lock | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Lock:
    """Resolve a request; MaterialError names each place and why it failed.

    A tag stays at the digest of `previous`, the lock of the same tag. What is downloaded is kept in `store`.
    """
    assert isinstance(request.source, ImageSource)
    name = request.source.name
    if previous is not None and f"oci:{name}" in previous.requested:
        name = replace(name, digest=previous.revision)
    found = _resolve(replace(request, source=ImageSource(name)), registries)
    pinned = store.put(found.data)
    tell(f"pulling {name}")
    params = {"registry": name.registry, "repository": name.repository, "tag": name.tag, "arch": EVERY_ARCH}
    layout = pull(ToolRequest(dict(params), {"pinned": FileContent(pinned)}, store))["layout"]
    assert isinstance(layout, TreeContent)
    there = files_below(flatten(Tree.decode(store.read(layout.tree)), store), request.folder)
    try:
        chosen = choose(there, request.files, request.pickles)
    except ValueError as error:
        raise MaterialError(f"`oci:{name}`, folder `/{request.folder}`: {error}") from error
    entries = [{"path": path, "sha256": there[path].digest.hash, "size": there[path].digest.size} for path in chosen]
    head = {"source": name.registry, "repository": name.repository, "revision": found.digest.oci}
    try:  # read as a build reads it
        return parse({"version": 1, "kind": "model", **head, "requested": list(request.requested), "file": entries})
    except LockError as error:
        raise MaterialError(f"`oci:{name}` has files that no lock can name: {error}") from error


def _resolve(request: ModelRequest, registries: Iterable[Registry]) -> Document:
    assert isinstance(request.source, ImageSource)
    name = request.source.name
    reasons = []
    for registry in registries:
        try:
            return registry.resolve(name)
        except Unavailable as error:
            reasons.append(f"\n    {registry}: {error}")
    hint = f"Log in where it is private: `docker login {name.registry}`; `[sources]` names another address"
    raise MaterialError(f"Cannot resolve `oci:{name}`:{''.join(reasons) or ' no address'}", hint=hint)
