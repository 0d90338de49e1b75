"""One call of `docker buildx build`: what an image is built of. Where, and with which caches, is the builder's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from forge.core.digest import Digest
from forge.core.tree import Tree


@dataclass(frozen=True, slots=True)
class Layout:
    """An OCI image layout as a named context."""

    tree: Tree
    digest: Digest
    """The manifest or index in it that is meant."""


@dataclass(frozen=True, slots=True)
class ImageBuild:
    """What to build; the whole of it is identity."""

    name: str
    """What it is called in caches' addresses."""
    dockerfile: bytes
    platforms: tuple[str, ...]
    """`linux/amd64`."""
    epoch: int
    """Seconds; what BuildKit writes wherever it would write the time of day."""
    context: Tree = field(default_factory=lambda: Tree.of({}))
    """The files that `COPY` sees."""
    contexts: Mapping[str, Tree | Layout] = field(default_factory=dict)
    """More of them, by the names that the Dockerfile has for them."""
    args: tuple[tuple[str, str], ...] = ()
    target: str = ""
    """The stage that is built; empty for the last one."""
    secrets: tuple[str, ...] = ()
    """Names of what steps may mount; whoever runs the build has the values."""
    annotations: tuple[tuple[str, str], ...] = ()
    """Of each manifest."""
    rewrite: bool = False
    """Set the times in every layer to `epoch`. BuildKit writes them all anew then, those of its bases too."""
    network: bool = False
    """Steps may use the network."""


class ImageBuilder(Protocol):
    """Builds images with a program that is not forge's."""

    def build(self, build: ImageBuild) -> Tree:
        """Build; the OCI layout that came out, its blobs in the store. ActionFailed or HostError if none does."""


def words(build: ImageBuild, *, folders: Mapping[str, str], out: str, dockerfile: str) -> list[str]:
    """Write a call as arguments of `docker buildx build`; `folders` has a path for "" (the context) and each name.

    Every value is a word of its own, or a quoted field of one: none can become another option.
    """
    found = ["--progress=plain", "--provenance=false", "--sbom=false"]
    found += [f"--network={'default' if build.network else 'none'}", f"--platform={','.join(build.platforms)}"]
    found += [f"--file={dockerfile}", f"--build-arg=SOURCE_DATE_EPOCH={build.epoch}"]
    found += [f"--build-arg={name}={value}" for name, value in build.args]
    if build.target:
        found.append(f"--target={build.target}")
    for name, content in build.contexts.items():
        place = f"oci-layout://{folders[name]}@{content.digest.oci}" if isinstance(content, Layout) else folders[name]
        found.append(f"--build-context={name}={place}")
    found += [f"--annotation=manifest:{name}={value}" for name, value in build.annotations]
    fields = ["type=oci", f"dest={out}", "tar=false"]
    if build.rewrite:
        fields.append("rewrite-timestamp=true")
    found.append(f"--output={comma_separated(fields)}")
    return [*found, folders[""]]


def comma_separated(fields: list[str]) -> str:
    """Write a line of CSV, as buildx reads the fields of an option."""
    return ",".join('"' + field.replace('"', '""') + '"' if set(field) & set(',"\n\r') else field for field in fields)
