"""forge's own tools, by the names that actions call them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from forge.core.digest import Digest, Hash, Pin
from forge.core.image_build import ImageBuilder
from forge.core.lock import Material
from forge.core.tool import Content, FileContent, Tool, ToolRequest
from forge.execution import tool as basic
from forge.execution.store import LocalStore
from forge.oci import buildx, dockerfile, extract, image, index, inspection, layer, model_layers
from forge.oci.pull import PULL_VERSION, Pull
from forge.packages import root, sbom, unpack
from forge.packages.sources import Sources

if TYPE_CHECKING:
    from forge.packages.fetch import Fetcher

TOOL_VERSIONS: Mapping[str, str] = {
    "buildx": f"{buildx.BUILDX_VERSION}+{image.IMAGE_VERSION}",
    "dockerfile": dockerfile.DOCKERFILE_VERSION,
    "extract": extract.EXTRACT_VERSION,
    "fetch": "1",
    "flatten": dockerfile.FLATTEN_VERSION,
    "image": image.IMAGE_VERSION,
    "index": index.INDEX_VERSION,
    "inspect": inspection.INSPECT_VERSION,
    "layer": layer.LAYER_VERSION,
    "model_layers": layer.LAYER_VERSION,
    "pull": PULL_VERSION,
    "root": root.ROOT_VERSION,
    "sbom": sbom.SBOM_VERSION,
    "tree": basic.TREE_VERSION,
    "unpack": unpack.UNPACK_VERSION,
    "write": basic.WRITE_VERSION,
}
"""They are in the keys of the actions."""


BUILDX_TOOLS = ("buildx", "dockerfile")
"""Those whose outcome depends on buildx and BuildKit too."""


def make_tools(
    store: LocalStore, sources: Callable[[], Sources], builder: ImageBuilder, *, offline: bool
) -> dict[str, Tool]:
    """Collect the tools; the fetcher is made when something has to be fetched."""
    fetch = Fetch(store, sources, offline=offline)
    return {
        "buildx": buildx.assembler(builder),
        "dockerfile": dockerfile.builder_tool(builder),
        "extract": extract.assemble,
        "fetch": fetch,
        "flatten": dockerfile.flattened,
        "image": image.assemble,
        "index": index.assemble,
        "inspect": inspection.inspect,
        "layer": layer.assemble,
        "model_layers": model_layers.assemble,
        "pull": Pull(fetch.all),
        "root": root.root,
        "sbom": sbom.sbom,
        "tree": basic.tree,
        "unpack": unpack.unpack,
        "write": basic.write,
    }


class OutsideVersions(Mapping[str, str]):
    """Versions of which some end with that of a program from outside, asked when the first of them is needed."""

    def __init__(self, versions: Mapping[str, str], names: Sequence[str], ask: Callable[[], str]) -> None:
        self._versions, self._names, self._ask = versions, names, ask
        self._said: str | None = None

    def __getitem__(self, name: str) -> str:
        if name not in self._names:
            return self._versions[name]
        if self._said is None:
            self._said = self._ask()
        return f"{self._versions[name]} {self._said}"

    def __iter__(self) -> Iterator[str]:
        return iter(self._versions)

    def __len__(self) -> int:
        return len(self._versions)


class Fetch:
    """The tool that brings a material."""

    def __init__(self, store: LocalStore, sources: Callable[[], Sources], *, offline: bool) -> None:
        self._store, self._sources, self._offline = store, sources, offline
        self._fetcher: Fetcher | None = None
        self._listeners: dict[Pin, Callable[[int], None]] = {}
        self._guard = Lock()

    def __call__(self, request: ToolRequest) -> Mapping[str, Content]:
        """Fetch one file."""
        params = {key: str(value) for key, value in request.params.items()}
        digest = Digest(params["sha256"], int(params["size"])) if "size" in params else Hash(params["sha256"])
        material = Material(
            params["name"],
            params["version"],
            params["file"],
            digest,
            params["source"],
            params["path"],
            params["suite"],
        )
        fetcher = self._made()
        with self._guard:
            total = digest.size if isinstance(digest, Digest) else 0
            self._listeners[digest] = lambda done: request.progress(done, total)
        return {material.file: FileContent(fetcher.fetch(material))}

    def all(self, materials: Sequence[Material], progress: Callable[[int, int], None]) -> list[Digest]:
        """Fetch many at once, and tell how far all of them are."""
        fetcher = self._made()
        done: dict[Pin, int] = {}
        total = sum(each.digest.size for each in materials if isinstance(each.digest, Digest))

        def tell(pin: Pin, count: int) -> None:
            done[pin] = count
            progress(sum(done.values()), total)

        with self._guard:
            for each in materials:
                self._listeners[each.digest] = partial(tell, each.digest)
        fetcher.fetch_all(materials)
        return [fetcher.fetch(each) for each in materials]

    def _made(self) -> Fetcher:
        from forge.packages.fetch import Fetcher

        with self._guard:
            if self._fetcher is None:
                self._fetcher = Fetcher(
                    self._sources(),
                    self._store,
                    self._store.home / "partial",
                    offline=self._offline,
                    on_progress=lambda material, done, total: self._listeners[material.digest](done),
                )
            return self._fetcher
