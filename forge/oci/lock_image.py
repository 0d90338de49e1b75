"""Locking an image: the digest that a tag means, and the parts of it for one architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from forge.core.base_image import BaseImage, ImageBlob
from forge.core.digest import Hash
from forge.core.errors import MaterialError
from forge.core.image_name import ImageName
from forge.core.lock import Lock, LockRequest, MissingMaterial
from forge.net.connection import Missing, Unavailable
from forge.oci.registry import Document, Registry
from forge.oci.selection import check_machine, parts, select


def lock_image(request: LockRequest, registries: Iterable[Registry], *, warn: Callable[[str], None]) -> Lock:
    """Resolve a request at the first of a registry's addresses that answers.

    Where none does, the lock has the declared digest alone, or no digest, and `warn` is told. MaterialError when the
    registry contradicts the declaration.
    """
    assert request.image is not None
    name = request.image
    bare = ImageName(name.registry, name.repository, name.tag)
    digest = Hash(name.digest.removeprefix("sha256:")) if name.digest else None
    reasons: list[str] = []
    failures: list[Unavailable] = []
    for registry in registries:
        try:
            return _lock(request, bare, _resolve(name, registry), registry)
        except Unavailable as error:
            reasons.append(f"{registry}: {error}")
            failures.append(error)
    why = "; ".join(reasons) or "no address of it is known"
    if failures and all(isinstance(each, Missing) for each in failures):
        hint = "Correct `image`, or name a mirror in `[sources]` of WORKSPACE.toml"
        raise MaterialError(f"`{name}` is not to be had: {why}", hint=hint)
    if digest is None:
        warn(f"`{bare.tagged}` is left out: `{bare.registry}` cannot be asked ({why}), and no `digest` is declared")
    else:
        warn(f"`{bare.tagged}` is locked by its declared digest alone: `{bare.registry}` cannot be asked ({why})")
    missing = () if digest else (MissingMaterial(bare.tagged, bare.tagged, bare.registry),)
    return Lock("image", request.arch, request.requested, (), image=BaseImage(bare, digest), missing=missing)


def _resolve(name: ImageName, registry: Registry) -> Document:
    """Ask what the tag means; MaterialError when that is not what is declared."""
    if not name.tag:
        return registry.resolve(name)
    try:
        found = registry.read(name.repository, name.tag)
    except Missing:
        if not name.digest:
            raise
        return registry.resolve(name)  # the tag is gone, what it meant is not
    if name.digest and found.digest.oci != name.digest:
        text = f"`{name.tagged}` is declared as {name.digest}, `{name.registry}` has {found.digest.oci}"
        raise MaterialError(text, hint="Correct `digest`, or take it out to follow the tag")
    return found


def _lock(request: LockRequest, name: ImageName, found: Document, registry: Registry) -> Lock:
    manifest = select(found.data, request.arch, name.tagged)
    if manifest.digest == found.digest:
        data = found.data
    else:
        read = registry.read(name.repository, manifest.digest.oci)
        data, manifest = read.data, ImageBlob(manifest.media_type, read.digest)
    config, layers = parts(data, name.tagged)
    check_machine(registry.blob(name.repository, config.digest), request.arch, name.tagged)
    image = BaseImage(name, Hash(found.digest.hash), manifest, config, layers)
    return Lock("image", request.arch, request.requested, (), image=image)
