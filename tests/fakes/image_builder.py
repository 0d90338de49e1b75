"""BuildKit without BuildKit: enough of it for Dockerfiles that forge writes."""

from __future__ import annotations

import json
from typing import Any

from forge.core.blob import BlobStore
from forge.core.image_build import ImageBuild, Layout
from forge.core.tree import Tree
from forge.oci import layout, mediatype
from forge.oci.manifest import Descriptor, Index, Machine, Manifest
from forge.oci.summary import ImageSummary, summarize_all


class FakeImageBuilder:
    """Passes the layers of all stages on, with the settings of the Dockerfile; notes what it was asked."""

    def __init__(self, store: BlobStore) -> None:
        self.store = store
        self.builds: list[ImageBuild] = []
        self.settings: dict[str, object] = {}
        """Put into the config that comes out, as a builder with ideas of its own would."""
        self.dropped = 0
        """Layers that are lost on the way."""

    def build(self, build: ImageBuild) -> Tree:
        """Make an image for each platform of the call."""
        self.builds.append(build)
        named, blobs = [], []
        for platform in build.platforms:
            machine = Machine(platform.partition("/")[2], "linux")
            manifest, config, layers = self._image(build, machine)
            named.append(Descriptor(mediatype.MANIFEST, manifest, machine))
            blobs += [manifest, config, *layers]
        if len(named) > 1:
            index = self.store.put(Index(tuple(named)).encode())
            named, blobs = [Descriptor(mediatype.INDEX, index)], [*blobs, index]
        return layout.compose(self.store, Index(tuple(named)), blobs)

    def _image(self, build: ImageBuild, machine: Machine) -> tuple[Any, Any, list[Any]]:
        lines = [line.partition(" ") for line in build.dockerfile.decode().splitlines()]
        taken = [rest for word, _, rest in lines if word == "FROM" and rest.split()[0] in build.contexts]
        images = [self._base(build, rest.split()[0], machine) for rest in taken]
        config = json.loads(self.store.read(images[0].config))
        config["config"] |= self.settings
        for word, _, rest in lines:
            if word in ("ENTRYPOINT", "CMD"):
                config["config"][word.capitalize()] = json.loads(rest)
            elif word in ("USER", "STOPSIGNAL"):
                config["config"][{"USER": "User", "STOPSIGNAL": "StopSignal"}[word]] = rest
            elif word == "EXPOSE":
                config["config"].setdefault("ExposedPorts", {})[rest] = {}
            elif word == "VOLUME":
                config["config"]["Volumes"] = {volume: {} for volume in json.loads(rest)}
        found = [layer for image in images for layer in image.layers]
        kept = found[: len(found) - self.dropped]
        config["rootfs"]["diff_ids"] = [layer.diff_id for layer in kept]
        config["history"] = [{"created_by": "x"} for _ in kept] + [{"created_by": "USER", "empty_layer": True}]
        encoded = self.store.put(json.dumps(config).encode())
        layers = tuple(Descriptor(layer.media_type, layer.digest) for layer in kept)
        made = Manifest(Descriptor(mediatype.CONFIG, encoded), layers, dict(build.annotations))
        return self.store.put(made.encode()), encoded, [layer.digest for layer in layers]

    def _base(self, build: ImageBuild, name: str, machine: Machine) -> ImageSummary:
        context = build.contexts[name]
        assert isinstance(context, Layout)
        images = summarize_all(context.tree, self.store)
        return next(each for each in images if each.architecture == machine.architecture)
