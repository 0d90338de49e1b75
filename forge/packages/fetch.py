"""Fetching: the materials of locks, from whatever place has their bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

from forge.core.blob import BlobStore
from forge.core.digest import Digest, Hash, Pin
from forge.core.errors import Fault, MaterialError
from forge.core.image_name import is_registry
from forge.core.lock import Material
from forge.net.connection import Connection, Denied, Login, Missing, Unavailable
from forge.net.docker_config import DockerConfig
from forge.net.download import Downloader
from forge.net.login import RegistryLogin
from forge.net.registry import ACCEPT, LIMIT, api, is_document
from forge.packages.index_python import PackageIndex
from forge.packages.once import Once
from forge.packages.sources import HUB_ID, WEB, Place, Sources, setting_hint

_SAFE = "/+~:@!,="
_CLOSED = "the repository is gated, private or not there"

OnProgress = Callable[[Material, int, int], None]
"""Gets the material, its bytes done (they fall back when a download begins again) and its bytes in all."""


class Fetcher:
    """Brings materials into a store; safe to share between threads, and no file is downloaded twice at once."""

    def __init__(
        self,
        sources: Sources,
        store: BlobStore,
        partial_dir: Path | None,
        *,
        offline: bool = False,
        jobs: int = 8,
        on_progress: OnProgress = lambda material, done, total: None,
        downloader: Downloader | None = None,
    ) -> None:
        self._sources, self._store, self._offline, self._jobs = sources, store, offline, jobs
        self._on_progress = on_progress
        self._downloader = downloader or Downloader(partial_dir, connection=Connection(sources.environ))
        self._index = PackageIndex(self._downloader)
        self._registries = RegistryLogin(DockerConfig(sources.environ), self._downloader.connection)
        self._running: Once[Pin, Digest] = Once(keep=False)
        self._stopped = threading.Event()
        self._slots = threading.BoundedSemaphore(jobs)

    def fetch(self, material: Material) -> Digest:
        """Bring `material` into the store, unless it is there; MaterialError names each place and why it failed."""
        if (held := self._store.find(material.digest)) is not None:
            return held
        return self._running.get(material.digest, lambda: self._fetch(material))

    def fetch_all(self, materials: Iterable[Material]) -> None:
        """Fetch many, several at a time; one MaterialError for all that failed."""
        missing = {each.digest: each for each in materials if self._store.find(each.digest) is None}
        faults: list[Fault] = []
        with ThreadPoolExecutor(max_workers=self._jobs) as pool:
            # Largest first, so that the long ones do not begin when all others are done.
            queue = sorted(missing.values(), key=lambda each: (-_size(each), each.file))
            futures = [pool.submit(self.fetch, each) for each in queue]
            try:
                for future in futures:
                    error = future.exception()
                    if isinstance(error, MaterialError):
                        faults += error.faults
                    elif error:
                        raise error
            except BaseException:
                self._stopped.set()  # or Ctrl-C would wait for gigabytes; what came so far is kept
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if faults:
            raise MaterialError(faults[0], *faults[1:])

    def _fetch(self, material: Material) -> Digest:
        if (held := self._store.find(material.digest)) is not None:  # came while this thread waited for its turn
            return held
        reasons: list[str] = []
        with self._slots:
            for place in self._sources.where(material):
                if self._offline and place.folder is None:
                    continue
                try:
                    return self._fetch_from(place, material)
                except Unavailable as error:
                    reasons.append(f"{place}: {said(place, error)}")
        raise self._failure(material, reasons)

    def _fetch_from(self, place: Place, material: Material) -> Digest:
        failure: Unavailable = Missing(f"Has no `{material.file}`")
        for address in self._candidates(place, material):
            try:
                if place.kind == "registry" and is_document(material.path):
                    return self._document(place, address, material)
                return self._downloader.into(
                    address,
                    self._digest(place, address, material),
                    self._store,
                    progress=lambda done: self._report(material, done),
                    login=self._login(place),
                )
            except Missing:
                continue
            except Unavailable as error:
                failure = error
        raise failure

    def _login(self, place: Place) -> Login:
        return self._registries if place.kind == "registry" else place.login

    def _document(self, place: Place, address: str, material: Material) -> Digest:
        """Read an index or manifest, whose size a lock may not know."""
        page = self._downloader.read(address, accept=ACCEPT, limit=LIMIT, login=self._login(place))
        digest = Digest.of(page.data)
        if material.digest not in (digest, Hash(digest.hash)):
            raise Unavailable(f"Gives another document than was asked for, with sha256 {digest.hash}")
        return self._store.put(page.data)

    def _digest(self, place: Place, address: str, material: Material) -> Digest:
        """Complete a digest whose size the lock does not know; a wrong one is found out when the bytes are hashed."""
        if isinstance(material.digest, Digest):
            return material.digest
        return Digest(material.digest.hash, self._downloader.size(address, login=self._login(place)))

    def _report(self, material: Material, done: int) -> None:
        if self._stopped.is_set():
            raise Unavailable("Stopped")
        self._on_progress(material, done, _size(material))

    def _candidates(self, place: Place, material: Material) -> Iterator[str]:
        """Yield the addresses below `place` that may have the bytes, the likeliest first."""
        folder = place.folder
        if place.kind == "file":
            yield place.address
            return
        names = _names(place, material)
        if folder is not None:
            # A vendored folder is flat, a mirror on disk has the paths of the archive.
            yield from (str(folder / each) for each in names if (folder / each).is_file())
        if place.kind == "registry" and folder is None:
            if material.path:
                yield api(place.address, material.path)
        elif place.kind in ("index", "links") and material.file.endswith((".whl", ".tar.gz")) and not material.path:
            yield from self._indexed(place, material)
        elif folder is None:
            yield from (f"{place.address}/{quote(each, safe=_SAFE)}" for each in names)

    def _indexed(self, place: Place, material: Material) -> Iterator[str]:
        if place.kind == "links":
            files = self._index.linked(place.address) if place.folder is None else {}
        else:
            files = self._index.files(place.address, material.name)
        offered = files.get(material.file)
        if offered is None:
            return
        if offered.sha256 and offered.sha256 != material.digest.hash:
            # Not worth the transfer: it would be thrown away.
            raise Unavailable(f"Offers a file of that name with sha256 {offered.sha256}")
        yield offered.address

    def _failure(self, material: Material, reasons: list[str]) -> MaterialError:
        size = f"{material.digest.size} bytes, " if isinstance(material.digest, Digest) else ""
        has_repository = material.source == HUB_ID or is_registry(material.source)
        whose = f" of `{material.name}` at {material.version}" if has_repository else ""
        wanted = f"`{material.file}`{whose} ({size}sha256 {material.digest.hash})"
        if self._offline:
            return MaterialError(
                f"{wanted} is not in the store, and `--offline` forbids to download it",
                hint="Run `forge fetch` once without `--offline`",
            )
        tried = "".join(f"\n    {each}" for each in reasons)
        return MaterialError(
            f"Cannot fetch {wanted} from source `{material.source}`:{tried}", hint=_hint(material, reasons)
        )


def _hint(material: Material, reasons: list[str]) -> str:
    """Tell a place that has another file from one that cannot be reached."""
    if reasons and all("sha256" in reason or "expected" in reason.lower() for reason in reasons):
        return (
            "A place has another file than the lock names: `forge lock --upgrade` if that is right, or another source"
        )
    if any(_CLOSED in reason for reason in reasons):
        return f"Accept the terms of `{material.name}` on its page, then set HF_TOKEN, or HF_HOME where a token file is"
    if material.source == HUB_ID:
        return (
            "Run `forge fetch` where the Hub can be reached, or name another place: HF_ENDPOINT, or `hf` in "
            f"`[sources]` of WORKSPACE.toml (a mirror, or a folder with `{material.name}/{material.file}`)"
        )
    if is_registry(material.source) and any("HTTP 401" in reason or "HTTP 403" in reason for reason in reasons):
        return f"Log in where it is private: `docker login {material.source}`"
    if material.source == WEB:
        return 'Put the file into a folder and name that: `"*" = "folder"` in `[sources]` of WORKSPACE.toml'
    if material.suite and reasons and all(f"Has no `{material.file}`" in reason for reason in reasons):
        return (
            f"The archive keeps the newest versions only: `forge lock --upgrade-package {material.name}`, or an "
            f"archive of snapshots; {setting_hint(material.source)}"
        )
    return setting_hint(material.source)


def said(place: Place, error: Unavailable) -> str:
    """Put in words why a place gives nothing."""
    if not (isinstance(error, Denied) and place.kind == "hub"):
        return str(error)
    return f"{error}: {_CLOSED}, and {'its token does not open it' if place.token else 'no token is set'}"


def _size(material: Material) -> int:
    return material.digest.size if isinstance(material.digest, Digest) else 0


def _names(place: Place, material: Material) -> list[str]:
    """Name what `material` may be called below `place`."""
    by_hash = f"{material.digest.hash}/{material.file}"  # where a vendored folder has two files of one name
    if material.source == WEB:
        return [by_hash, material.file]
    if material.source != HUB_ID:
        names = [each for each in (material.path, material.file) if each]
        return names if place.folder is None else [*names, by_hash]
    if place.kind == "cache":
        folder = f"models--{material.name.replace('/', '--')}"
        return [f"{folder}/blobs/{material.digest.hash}", f"{folder}/snapshots/{material.version}/{material.file}"]
    if place.kind == "hub" and place.folder is None:
        return [material.path]
    return [material.path, f"{material.name}/{material.file}", by_hash, material.file]
