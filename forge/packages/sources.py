"""Sources: where the materials of a source id are.

A lock names a source id, never an address. `[sources]` of WORKSPACE.toml gives an id its addresses; without
an entry the host's own package tools are asked (pip, apt), then the defaults below. Whatever a place gives is
verified by digest, so more places can only help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import module_from_spec
from pathlib import Path
from typing import Literal

from forge.core.errors import MaterialError
from forge.core.image_name import DOCKER_HUB, is_registry, registry_id
from forge.core.lock import Material
from forge.net.address import is_remote, local_path, mask
from forge.net.connection import Known, Login
from forge.net.registry import default_address
from forge.packages.apt_config import AptSource, read_apt_config
from forge.packages.pip_config import PipConfig, Setting, read_pip_config

PYTORCH_CPU = "https://download.pytorch.org/whl/cpu"
JETSON = "https://pypi.jetson-ai-lab.io/jp6/cu126"
"""The index of a community that builds CUDA wheels for JetPack 6."""
HUB = "https://huggingface.co"
DEBIAN_MIRROR = "https://ftp.halifax.rwth-aachen.de/debian"
"""A university's public mirror; for hosts whose own apt does not have the suite."""
DEBIAN_SECURITY_MIRROR = "https://ftp.halifax.rwth-aachen.de/debian-security"
_SCHEMES = ("http://", "https://", "file://")
HUB_ID = "hf"
"""The id of models on the Hub."""
WEB = "https"
"""The id of what a declaration itself has the address of."""
ANY = "*"
"""The id under which `[sources]` names places that may have anything, such as a vendored folder."""

PlaceKind = Literal[
    "index",  # a Simple repository API: one page per package
    "links",  # a folder, or a page of links, as pip's find-links
    "archive",  # files below a base address by their path
    "registry",  # images, as the OCI distribution API serves them
    "hub",  # repositories of models, as the Hugging Face Hub serves them
    "cache",  # the folder in which that Hub's clients keep what they have downloaded
    "file",  # the one file itself
]


@dataclass(frozen=True, slots=True)
class Place:
    """One address, and who said so."""

    address: str
    """`http(s)://…` without a slash at its end, or the absolute path of a folder."""
    kind: PlaceKind = field(compare=False)
    origin: str = field(compare=False)
    suites: tuple[str, ...] = ()
    """Debian suites that the archive is known to have; empty where it may have any."""
    token: str = field(default="", repr=False, compare=False)
    """Sent as a bearer token to this address's host only."""

    @property
    def folder(self) -> Path | None:
        """The folder, where the place is one."""
        return None if is_remote(self.address) else Path(self.address)

    @property
    def login(self) -> Login:
        """What it is shown."""
        return Known.bearer(self.token)

    def __str__(self) -> str:
        return mask(self.address)


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A line of `forge info sources`."""

    source: str
    address: str
    """Without credentials."""
    origin: str


@dataclass(frozen=True, slots=True)
class Sources:
    """Places by source id."""

    by_id: Mapping[str, tuple[Place, ...]]
    wheels: tuple[Place, ...] = ()
    """pip's find-links and extra indexes: tried for every wheel, whatever its id."""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """What `read` was given; the tools that a lock starts, and the netrc look-up, get it too."""

    @classmethod
    def read(
        cls,
        table: Mapping[str, str | Sequence[str]],
        environ: Mapping[str, str],
        *,
        root: Path = Path(),
        etc: Path = Path("/etc"),
    ) -> Sources:
        """Combine `[sources]` with what pip and apt are configured for; `root` is what relative folders lie below."""
        pip = read_pip_config(environ, etc)
        links = tuple(_place(each, "links", root) for each in pip.links)
        extra = () if pip.no_index else tuple(_place(each, "index", root) for each in pip.extra)
        by_id: dict[str, tuple[Place, ...]] = {
            "pypi": (*links, *_default_index(pip, root), *extra),
            "pytorch-cpu": (Place(PYTORCH_CPU, "index", "default"),),
            "jetson-ai-lab": (Place(JETSON, "index", "default"),),
            DOCKER_HUB: (Place(default_address(DOCKER_HUB), "registry", "default"),),
            HUB_ID: (*_hub_cache(environ), _hub(environ)),
            "debian": _debian(read_apt_config(etc), root),
        }
        for source, value in table.items():
            addresses = [value] if isinstance(value, str) else value
            origin = f"[sources] {source}"
            by_id[registry_id(source)] = tuple(_place(Setting(each, origin), _kind(source), root) for each in addresses)
        if HUB_ID in table:
            hub = _hub(environ)
            # Who writes WORKSPACE.toml may choose another hub, and not where the user's token goes.
            chosen = (hub if each.address == hub.address else each for each in by_id[HUB_ID])
            by_id[HUB_ID] = (*_hub_cache(environ), *chosen)
        return cls(by_id, (*links, *extra), environ)

    def places(self, source: str, *, suite: str = "") -> tuple[Place, ...]:
        """List the places of `source` that may have `suite`, in the order in which to try them."""
        if source not in self.by_id and is_registry(source):
            return (Place(default_address(source), "registry", "default"),)
        found = [each for each in self.by_id.get(source, ()) if not each.suites or suite in each.suites]
        known = [each for each in found if each.suites]
        # A default mirror stands in for apt where that lacks the suite, it does not compete with it.
        return tuple(known or found)

    def where(self, material: Material) -> tuple[Place, ...]:
        """List every place that may have `material`: folders first, they cost nothing to ask."""
        places = [*self.places(material.source, suite=material.suite), *self.by_id.get(ANY, ())]
        if material.source == WEB:
            places.append(Place(material.path, "file", "the declaration"))
        if material.file.endswith(".whl"):
            places += self.wheels
        unique = tuple(dict.fromkeys(places))
        if not unique:
            raise MaterialError(
                f"Source `{material.source}` of `{material.file}` has no address", hint=setting_hint(material.source)
            )
        return tuple(sorted(unique, key=lambda each: each.folder is None))

    def show(self) -> tuple[SourceRow, ...]:
        """List all places for `forge info sources`, credentials masked."""
        rows = [
            SourceRow(source, str(place), place.origin)
            for source, places in sorted(self.by_id.items())
            for place in places
        ]
        return (*rows, SourceRow("other registries", "https://NAME", "default"))


def setting_hint(source: str) -> str:
    """Say which setting gives `source` an address."""
    key = source if source.replace("-", "").replace("_", "").isalnum() else f'"{source}"'
    return f'Set `{key} = "https://…"` (or a folder) in `[sources]` of WORKSPACE.toml'


def _kind(source: str) -> PlaceKind:
    if is_registry(source):
        return "registry"
    return "hub" if source == HUB_ID else "archive" if source in ("debian", ANY) else "index"


def _place(setting: Setting, kind: PlaceKind, root: Path) -> Place:
    if "://" in setting.value and not setting.value.startswith(_SCHEMES):
        raise MaterialError(
            f"Address `{mask(setting.value)}` is neither http(s), file nor a folder", place=setting.origin
        )
    if is_remote(setting.value):
        return Place(setting.value.rstrip("/"), kind, setting.origin)
    folder = (root / local_path(setting.value).expanduser()).resolve()
    if kind == "index" and any(folder.glob("*.whl")):  # a flat folder where an index was expected
        kind = "links"
    return Place(str(folder), kind, setting.origin)


def _hub(environ: Mapping[str, str]) -> Place:
    endpoint, token = environ.get("HF_ENDPOINT", ""), environ.get("HF_TOKEN", "").strip()
    if not token and (home := _hub_home(environ)):
        file = Path(environ.get("HF_TOKEN_PATH", "")) if environ.get("HF_TOKEN_PATH") else home / "token"
        with suppress(OSError, UnicodeDecodeError):
            token = file.read_text("utf-8").strip()
    return Place((endpoint or HUB).rstrip("/"), "hub", "HF_ENDPOINT" if endpoint else "default", token=token)


def _hub_cache(environ: Mapping[str, str]) -> tuple[Place, ...]:
    """Find what other programs of this user have downloaded; its bytes are verified like any."""
    named, home = environ.get("HF_HUB_CACHE", ""), _hub_home(environ)
    folder = Path(named).expanduser() if named else home / "hub" if home else None
    if folder is None or not folder.is_dir():
        return ()
    return (Place(str(folder.resolve()), "cache", "HF_HUB_CACHE" if named else "HF_HOME"),)


def _hub_home(environ: Mapping[str, str]) -> Path | None:
    """Name the folder of the Hub's clients, as they do."""
    if environ.get("HF_HOME"):
        return Path(environ["HF_HOME"]).expanduser()
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"]) / "huggingface"
    return Path(environ["HOME"]) / ".cache/huggingface" if environ.get("HOME") else None


def _debian(configured: tuple[AptSource, ...], root: Path) -> tuple[Place, ...]:
    places = []
    for each in configured:
        place = _place(Setting(each.address, each.origin), "archive", root)
        origin = f"{each.origin} ({' '.join(each.suites)})"
        places.append(Place(place.address, "archive", origin, each.suites))
    defaults = (DEBIAN_MIRROR, DEBIAN_SECURITY_MIRROR)
    return (*places, *(Place(each, "archive", "default mirror") for each in defaults))


def _default_index(pip: PipConfig, root: Path) -> tuple[Place, ...]:
    if pip.no_index:
        return ()
    if pip.index:
        return (_place(pip.index, "index", root),)
    address = _default_index_address()
    return (Place(address.rstrip("/"), "index", "pip's default"),) if address else ()


def _default_index_address() -> str:
    # forge names no registry: what pip takes when nothing is configured is what the user expects here too.
    # pip is in most environments; where it is not (made by uv), Python's own ensurepip carries its wheel.
    try:
        from pip._internal.models.index import PyPI
    except ImportError:
        return _bundled_default()
    return str(PyPI.simple_url)


def _bundled_default() -> str:
    try:
        import ensurepip
    except ImportError:
        return ""
    from zipimport import zipimporter

    # The last is where Debian keeps the wheels that it takes out of ensurepip.
    for folder in (Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels")):
        for wheel in sorted(folder.glob("pip-*.whl")):
            # Only this module, which imports nothing of pip, so that no half pip is left in sys.modules.
            spec = zipimporter(str(wheel / "pip/_internal/models")).find_spec("index")
            if spec is not None and spec.loader is not None:
                module = module_from_spec(spec)
                spec.loader.exec_module(module)
                return str(module.PyPI.simple_url)
    return ""
