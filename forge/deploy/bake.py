"""A file for `docker buildx bake`: a target an image, over the layouts that forge has made.

A target's Dockerfile is one line, which begins with the layout as a named context and changes nothing: BuildKit passes
the layers on as they are, and takes from them only what its builder lacks. bake reads `${NAME}` and `%{` in texts as
HCL does, which two of their first characters escape.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

_DOCKERFILE = "FROM image\n"


@dataclass(frozen=True, slots=True)
class BakeTarget:
    """An image, or images of several architectures under one name."""

    name: str
    """A DNS label, no other target's."""
    ref: str
    """Name and tag."""
    layout: str
    """Path of its OCI layout, from where bake is called."""
    digest: str
    """Of the manifest or index in it."""
    architectures: tuple[str, ...]


def render_bake(
    targets: Sequence[BakeTarget], *, epoch: int, cache_from: Sequence[str] = (), cache_to: Sequence[str] = ()
) -> str:
    """Write the file; `epoch` is the time that BuildKit writes, in seconds.

    `{name}` of a cache becomes the target's image's name, as it does in `[buildx]`.
    """
    names = [target.name for target in targets]
    table = {
        "group": {"default": {"targets": names}},
        "target": {target.name: _target(target, epoch, cache_from, cache_to) for target in targets},
    }
    return json.dumps(table, indent=2) + "\n"


def _target(target: BakeTarget, epoch: int, cache_from: Sequence[str], cache_to: Sequence[str]) -> dict[str, object]:
    cache = target.ref.replace("/", "-").replace(":", "-")
    found: dict[str, object] = {
        # Nothing is copied from it; bake wants one, and the layout is the folder that is there.
        "context": _text(target.layout),
        "dockerfile-inline": _DOCKERFILE,
        "contexts": {"image": _text(f"oci-layout://{target.layout}@{target.digest}")},
        "args": {"SOURCE_DATE_EPOCH": str(epoch)},
        "platforms": [f"linux/{arch}" for arch in target.architectures],
        "tags": [_text(target.ref)],
    }
    for key, caches in (("cache-from", cache_from), ("cache-to", cache_to)):
        if caches:
            found[key] = [_text(each.replace("{name}", cache)) for each in caches]
    return found


def _text(value: str) -> str:
    return value.replace("${", "$${").replace("%{", "%%{")
