"""Pushing images for `forge push`: what each is called, what this workspace pushed before, and how it went."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from forge.cli.console import Console, human
from forge.cli.exporting import replace_file
from forge.core.blob import BlobStore
from forge.core.errors import Fault, MaterialError, UsageError, UserError
from forge.core.graph import ActionGraph
from forge.core.image_name import ImageName, is_registry
from forge.core.label import Label
from forge.core.provider import ImageInfo, IndexInfo
from forge.core.target import TargetGraph
from forge.loading.workspace import PushTable
from forge.net.connection import Connection
from forge.net.docker_config import DockerConfig
from forge.net.download import Downloader
from forge.net.login import RegistryLogin
from forge.oci.push import Pusher
from forge.oci.reference import Reference
from forge.oci.registry import Registry
from forge.oci.upload import Uploader
from forge.packages.sources import Sources

PLACEHOLDERS: Final = ("label", "package", "name", "platform")
_TIMEOUT: Final = 120.0
"""Seconds without an answer: a registry hashes a large blob before it says that it has it."""
_KEPT: Final = 20_000
"""Blobs that the note remembers."""
_TOLD: Final = 10.0


@dataclass(frozen=True, slots=True)
class Pushed:
    """One image that is in its registry."""

    label: Label
    reference: str
    digest: str
    sent: int
    mounted: int
    there: int


def images_of(graph: TargetGraph, actions: ActionGraph) -> dict[Label, ImageInfo | IndexInfo]:
    """Find the images and indexes that are meant; UserError when one is named that is none, or there is none."""
    found: dict[Label, ImageInfo | IndexInfo] = {}
    for label in graph.requested:
        info = actions.providers.get(label)
        if isinstance(info, (ImageInfo, IndexInfo)):
            found[label] = info
        elif label in graph.outright:
            target = graph.targets[label]
            raise UserError(f"`{label}` is a `{target.rule}`, not an image", place=target.place)
    if not found:
        raise UserError("No image matches", hint="`forge query 'kind(image, //...)'` lists the images")
    return found


def target_name(label: Label, info: ImageInfo | IndexInfo, table: PushTable, to: str, tag: str) -> ImageName:
    """Say what an image is pushed as: flags, else `[push]`, else its own name; UsageError when that is no name."""
    own = Reference.parse(info.ref)
    platform = info.platform.name if isinstance(info, ImageInfo) and info.platform else label.name
    words = {"label": f"{label.package}/{label.name}".lstrip("/"), "package": label.package, "name": label.name}
    words["platform"] = platform
    given, _, given_tag = to.rpartition(":") if ":" in to.rpartition("/")[2] else (to, "", "")
    repository = _filled(given or table.repository, words).replace("+", "_") or (f"{own.host}{own.path}" if own else "")
    chosen = _filled(tag or given_tag or table.tag, {key: _word(value) for key, value in words.items()})
    chosen = chosen or (own.tag if own else label.name)
    registry, slash, path = repository.partition("/")
    if not slash or not is_registry(registry):
        hint = 'Write `--to=REGISTRY/REPOSITORY`, or set `repository = "REGISTRY/…"` in `[push]` of WORKSPACE.toml'
        raise UsageError(f"`{repository}`, the name of `{label}`, names no registry", hint=hint)
    if "@" in repository or (tag and given_tag):
        raise UsageError(f"`--to={to}` and `--tag` say twice what the image is called", hint="Give one tag, no digest")
    try:
        return ImageName.of(registry.lower(), path.lower(), chosen)
    except ValueError as error:
        raise UsageError(f"`{label}` cannot be pushed as `{repository}:{chosen}`: {error}") from error


def check_names(names: Mapping[Label, ImageName]) -> None:
    """Refuse two images of one name."""
    seen: dict[ImageName, Label] = {}
    for label, name in names.items():
        if name in seen:
            hint = f"Put one of [{', '.join(f'{{{each}}}' for each in PLACEHOLDERS)}] into the tag"
            raise UserError(Fault(f"`{seen[name]}` and `{label}` would both be `{name}`", hint=hint))
        seen[name] = label


def pusher(sources: Sources, registry: str, store: BlobStore, note: Note, progress: Progress) -> Pusher:
    """Make what pushes to a registry, with Docker's logins; MaterialError where `[sources]` has a folder for it."""
    places = [place for place in sources.places(registry) if place.folder is None]
    if not places:
        raise MaterialError(f"`[sources]` has no address for `{registry}`: nothing can be pushed to a folder")
    address = places[0].address
    connection = Connection(sources.environ, timeout=_TIMEOUT)
    login = RegistryLogin(DockerConfig(sources.environ), connection)
    stopped = threading.Event()
    uploader = Uploader(address, connection, login, sleep=stopped.wait, stopped=stopped, progress=progress.advance)
    reading = Registry(address, Downloader(None, connection=connection), login)
    return Pusher(reading, uploader, store, note.of(reading))


@dataclass(slots=True)
class Note:
    """Which repository of a registry has which blob, as this workspace pushed them: what mounts are asked from."""

    path: Path
    table: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Note:
        """Read it; one that is not there, or damaged, knows nothing."""
        try:
            found = json.loads(path.read_text())
            return cls(path, {str(key): dict(value) for key, value in found.items()})
        except (OSError, ValueError, TypeError, AttributeError):
            return cls(path)

    def of(self, registry: Registry) -> dict[str, str]:
        """Give what is known of a registry, to be read and added to."""
        return self.table.setdefault(str(registry), {})

    def save(self) -> None:
        """Write it down, of each registry the latest."""
        kept = {key: dict(list(value.items())[-_KEPT:]) for key, value in self.table.items()}
        replace_file(self.path, json.dumps(kept))


@dataclass(slots=True)
class Progress:
    """Says every ten seconds how much has been sent."""

    console: Console
    clock: Callable[[], float] = time.monotonic
    sent: int = 0
    _told: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def advance(self, count: int) -> None:
        """Count bytes that were given to a connection; from any thread."""
        with self._lock:
            self.sent += count
            now = self.clock()
            if now - self._told >= _TOLD:
                self._told = now
                self.console.line(f"    {human(self.sent)} sent")


def summary(pushed: list[Pushed], seconds: float) -> str:
    """Say in one line what became of the bytes."""
    parts = [(sum(each.sent for each in pushed), "sent"), (sum(each.mounted for each in pushed), "mounted")]
    parts.append((sum(each.there for each in pushed), "already there"))
    images = f"{len(pushed)} image{'' if len(pushed) == 1 else 's'}"
    return f"{images} pushed: {', '.join(f'{human(size)} {what}' for size, what in parts)}, {seconds:.1f} s"


def render_json(pushed: list[Pushed]) -> str:
    """Write it all; the shape is `schema` 1 and only grows."""
    rows = [
        {
            "label": str(each.label),
            "reference": each.reference,
            "digest": each.digest,
            "bytes": {"sent": each.sent, "mounted": each.mounted, "there": each.there},
        }
        for each in pushed
    ]
    return json.dumps({"schema": 1, "command": "push", "images": rows}, indent=2) + "\n"


def _word(text: str) -> str:
    """Write a part of a label so that it can stand in a tag."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)


def _filled(template: str, words: Mapping[str, str]) -> str:
    for key, value in words.items():
        template = template.replace(f"{{{key}}}", value)
    return template
