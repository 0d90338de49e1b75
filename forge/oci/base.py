"""What an image takes over from the one that it is laid over: layers as they are, and a part of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from forge.core.blob import BlobStore
from forge.core.errors import ActionFailed
from forge.core.tree import Tree
from forge.oci import mediatype
from forge.oci.check import Check
from forge.oci.config import ImageConfig
from forge.oci.layer import LayerDescriptor
from forge.oci.manifest import Machine
from forge.oci.summary import summarize

_LISTS: Final = ("LD_LIBRARY_PATH", "LIBRARY_PATH", "PATH", "PYTHONPATH")
"""Variables that hold folders: the base's come after the image's own."""
_ABOUT: Final = "org.opencontainers.image."
"""Labels that begin so say of the base what is not so of the image."""


@dataclass(frozen=True, slots=True)
class Base:
    """The lowest layers of an image, which are another image's."""

    machine: Machine
    layers: tuple[LayerDescriptor, ...]
    history: tuple[str, ...]
    env: tuple[str, ...]
    labels: Mapping[str, str]

    @classmethod
    def read(cls, layout: Tree, store: BlobStore) -> Base:
        """Read a layout that has been validated."""
        summary = summarize(layout, store)
        check = Check("base")
        settings = check.object(check.document(store.read(summary.config)).get("config") or {}, "config")
        env = check.texts(settings.get("Env") or [], "config.Env")
        labels = check.pairs(settings.get("Labels") or {}, "config.Labels")
        check.finish(ActionFailed)
        layers = tuple(
            # Docker's names of kinds of layers and the specification's mean the same bytes.
            LayerDescriptor(mediatype.OCI_LAYERS[mediatype.LAYERS[each.media_type]], each.digest, each.diff_id)
            for each in summary.layers
        )
        machine = Machine(summary.architecture, summary.os, summary.variant)
        return cls(machine, layers, tuple(each.created_by for each in summary.layers), env, labels)

    def under(self, check: Check, config: ImageConfig) -> ImageConfig:
        """Lay a configuration over the base's: variables and labels are added, everything else is the image's own."""
        if not self.machine.fits(config.machine):
            check.fault(f"The base is for {self.machine.document()}, the image for {config.machine.document()}")
        kept = {key: value for key, value in self.labels.items() if not key.startswith(_ABOUT)}
        env = variables(self.env, config.env)
        return replace(config, machine=self.machine, env=env, labels={**kept, **config.labels})


def variables(below: tuple[str, ...], above: tuple[str, ...]) -> tuple[str, ...]:
    """Lay variables over others; lists of folders are joined."""
    found = dict(each.partition("=")[::2] for each in below)
    for each in above:
        name, _, value = each.partition("=")
        if name in _LISTS and name in found:
            value = ":".join(dict.fromkeys(part for part in f"{value}:{found[name]}".split(":") if part))
        found[name] = value
    return tuple(f"{name}={value}" for name, value in found.items())
