"""Locking a model: the commit that a branch means, and the digest of each wanted file.

The Hub tells SHA-256 and size of what it keeps as large objects; the other files are small, and are downloaded to
be hashed. https://huggingface.co/docs/hub/api. What an address has can only be known by downloading it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from forge.core.blob import BlobStore
from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.lock import EVERY_ARCH, Lock, Material
from forge.core.lock_text import LockError, parse
from forge.core.model_source import HubSource, ModelRequest, WebSource, choose, is_commit
from forge.net.address import is_remote, mask
from forge.net.connection import Connection, Missing, Unavailable
from forge.net.download import Downloader
from forge.packages.fetch import said
from forge.packages.sources import HUB_ID, WEB, Place, Sources, setting_hint

_MAX_ANSWER = 64 << 20
_MAX_PAGES = 100
_SAFE = "/+~:@!,="


def lock_model(
    request: ModelRequest,
    sources: Sources,
    store: BlobStore,
    *,
    previous: Lock | None = None,
    tell: Callable[[str], None] = lambda text: None,
    downloader: Downloader | None = None,
) -> Lock:
    """Resolve a request; MaterialError names each place and why it failed.

    A branch stays at the commit of `previous`, the lock of the same branch. What is downloaded is kept in `store`.
    """
    transfer = downloader or Downloader(None, connection=Connection(sources.environ))
    if isinstance(request.source, WebSource):
        return _lock_addresses(request, request.source, transfer, store, tell)
    assert isinstance(request.source, HubSource), "an image's lock is made by who can read images"
    reasons: list[str] = []
    for place in sources.places(HUB_ID):
        if not is_remote(place.address):
            continue  # a folder has files, it knows no branches
        try:
            return _Hub(place, request.source, transfer, store, tell).lock(request, _kept(request, previous))
        except Unavailable as error:
            reasons.append(f"\n    {place}: {said(place, error)}")
    text = f"Cannot resolve `hf:{request.source.repository}` at `{request.revision}`:{''.join(reasons) or ' no hub'}"
    raise MaterialError(text, hint=f"Set HF_TOKEN where it is gated; {setting_hint(HUB_ID)} names another hub")


def _lock_addresses(
    request: ModelRequest, source: WebSource, transfer: Downloader, store: BlobStore, tell: Callable[[str], None]
) -> Lock:
    materials = []
    for name, address in source.files:
        tell(f"downloading {name}")
        try:
            digest = transfer.learn(address, store)
        except Unavailable as error:
            raise MaterialError(f"Cannot lock `{mask(address)}`: {error}") from error
        materials.append(Material(name, "", name, digest, WEB))
    return Lock("model", EVERY_ARCH, request.requested, tuple(materials))


def _kept(request: ModelRequest, previous: Lock | None) -> str:
    """Tell which commit the branch meant when it was locked last; empty where it is another branch, or none."""
    is_same = previous is not None and {f"hf:{_repository(request)}", f"revision {request.revision}"} <= {
        *previous.requested
    }
    return previous.revision if previous is not None and is_same else ""


def _repository(request: ModelRequest) -> str:
    return request.source.repository if isinstance(request.source, HubSource) else ""


class _Hub:
    """One repository at one hub."""

    def __init__(
        self, place: Place, source: HubSource, transfer: Downloader, store: BlobStore, tell: Callable[[str], None]
    ) -> None:
        self._place, self._repository = place, source.repository
        self._transfer, self._store, self._tell = transfer, store, tell

    def lock(self, request: ModelRequest, commit: str) -> Lock:
        """Resolve a request."""
        commit = commit or self._commit(request.revision)
        files = dict(self._files(commit))
        try:
            chosen = choose(files, request.files, request.pickles)
        except ValueError as error:
            raise MaterialError(f"`hf:{self._repository}` at `{request.revision}`: {error}") from error
        entries = []
        for path in chosen:
            digest = files[path] or self._hashed(commit, path)
            entries.append({"path": path, "sha256": digest.hash, "size": digest.size})
        table = {"version": 1, "kind": "model", "source": HUB_ID, "repository": self._repository, "revision": commit}
        try:  # read as a build reads it: what a hub says is not believed further than a lock file
            return parse({**table, "requested": list(request.requested), "file": entries})
        except LockError as error:
            raise MaterialError(f"`hf:{self._repository}` has files that no lock can name: {error}") from error

    def _commit(self, revision: str) -> str:
        table = self._read(f"revision/{quote(revision, safe='')}")[0]
        commit = table.get("sha") if isinstance(table, dict) else None
        if not isinstance(commit, str) or not is_commit(commit):
            raise Unavailable(f"Names no commit for `{revision}`")
        if is_commit(revision) and commit != revision:
            raise Unavailable(f"Gives the commit {commit} for {revision}")
        return commit

    def _files(self, commit: str) -> Iterator[tuple[str, Digest | None]]:
        """Yield the files of a commit, with the digest of those that are large objects."""
        following = f"tree/{commit}?recursive=true"
        for _ in range(_MAX_PAGES):
            rows, following = self._read(following)
            if not isinstance(rows, list):
                raise Unavailable("Lists no files")
            for row in rows:
                if isinstance(row, dict) and row.get("type") == "file" and isinstance(row.get("path"), str):
                    yield row["path"], _large(row)
            if not following:
                return
        raise Unavailable(f"Lists its files on more than {_MAX_PAGES} pages")

    def _hashed(self, commit: str, path: str) -> Digest:
        self._tell(f"downloading {path}")
        address = f"{self._place.address}/{self._repository}/resolve/{commit}/{quote(path, safe=_SAFE)}"
        return self._transfer.learn(address, self._store, login=self._place.login)

    def _read(self, what: str) -> tuple[Any, str]:
        """Ask the hub's interface; its answer, and what to ask for the rest."""
        base = f"{self._place.address}/api/models/{self._repository}/"
        try:
            page = self._transfer.read(base + what, limit=_MAX_ANSWER, login=self._place.login)
            table = json.loads(page.data)
        except Missing as error:
            raise Unavailable(f"{error}: no such repository or revision") from error
        except (ValueError, RecursionError) as error:
            raise Unavailable("Does not speak the Hub's protocol: its answer is not JSON") from error
        if page.next and not page.next.startswith(base):  # the token goes nowhere else
            raise Unavailable("Continues its list somewhere else")
        return table, page.next.removeprefix(base)


def _large(row: dict[str, Any]) -> Digest | None:
    lfs = row.get("lfs")
    if lfs is None:
        return None
    oid, size = (lfs.get("oid"), lfs.get("size")) if isinstance(lfs, dict) else (None, None)
    if not isinstance(oid, str) or type(size) is not int:
        raise Unavailable(f"Gives no digest of the large object `{row['path']}`")
    try:
        return Digest(oid.removeprefix("sha256:"), size)
    except ValueError as error:
        raise Unavailable(f"{error} (`{row['path']}`)") from error
