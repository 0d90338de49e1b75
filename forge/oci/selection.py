"""Which manifest of an image is for an architecture, and what it consists of; read with limits.

An index is not followed into another one: no tool that people use writes such, and it could go on for ever.
"""

from __future__ import annotations

from typing import Final

from forge.core.base_image import ImageBlob
from forge.core.digest import Digest
from forge.core.lock import EVERY_ARCH
from forge.core.tool import Json
from forge.oci import document, mediatype
from forge.oci.check import Check, ImageError
from forge.oci.config import ConfigFacts
from forge.oci.manifest import Descriptor, Machine, Manifest
from forge.oci.summary import LAYERS

ENTRIES: Final = 1000
"""Manifests that an index may name."""
LARGEST: Final = 1 << 40
"""Bytes that a layer may have."""


def select(encoded: bytes, arch: str, place: str) -> ImageBlob:
    """Find the manifest for Linux on `arch` in an index, or take a manifest as it is; ImageError if there is none.

    A manifest does not say what it is for, its configuration does: see `check_machine`.
    """
    check = Check(place)
    found = check.document(encoded)
    check.finish(ImageError)
    media_type = found.get("mediaType") or (mediatype.INDEX if "manifests" in found else mediatype.MANIFEST)
    if {"manifests", "layers"} <= found.keys():
        # Some readers would take it for an index, others for a manifest: CVE-2021-41190.
        check.fault("The document is a manifest and an index at once")
    elif media_type in mediatype.MANIFESTS:
        return ImageBlob(str(media_type), Digest.of(encoded))
    elif media_type not in mediatype.INDEXES:
        check.fault(f"`mediaType` is `{media_type}`, neither an image nor an index of images")
    entries = check.array(found.get("manifests", []), "manifests")
    if len(entries) > ENTRIES:
        check.fault(f"The index names {len(entries)} manifests, more than {ENTRIES}")
    check.finish(ImageError)
    described = [one for number, value in enumerate(entries) if (one := _entry(check, value, number))]
    check.finish(ImageError)
    return _best(described, arch, place)


def parts(encoded: bytes, place: str) -> tuple[ImageBlob, tuple[ImageBlob, ...]]:
    """Read a manifest: its configuration and layers; ImageError with all that is wrong with it."""
    check = Check(place)
    manifest = Manifest.decode(check, encoded)
    if manifest is not None:
        if len(manifest.layers) > LAYERS:
            check.fault(f"There are {len(manifest.layers)} layers, Docker takes {LAYERS}")
        if manifest.config.digest.size > document.LIMIT:
            check.fault(f"The configuration has {manifest.config.digest.size} bytes, more than {document.LIMIT}")
        if any(layer.digest.size > LARGEST for layer in manifest.layers):
            check.fault(f"A layer has more than {LARGEST} bytes")
    check.finish(ImageError)
    assert manifest is not None
    return _blob(manifest.config), tuple(map(_blob, manifest.layers))


def check_machine(config: bytes, arch: str, place: str) -> Machine:
    """Read what an image runs on from its configuration; ImageError when that is not Linux on `arch`."""
    check = Check(place)
    machine = ConfigFacts.decode(check, config).machine
    if not check.faults and not _is_for(machine, arch):
        text = f"The image is for {machine.os} on {machine.architecture}, not for linux on {arch}"
        check.fault(text, "Declare the platform that it is for, or an image that has this one")
    check.finish(ImageError)
    return machine


def _entry(check: Check, value: Json, number: int) -> Descriptor | None:
    # Others than manifests, such as signatures, are of no interest, whatever they look like.
    is_manifest = isinstance(value, dict) and value.get("mediaType") in mediatype.MANIFESTS
    return Descriptor.read(check, value, f"manifests[{number}]") if is_manifest else None


def _best(described: list[Descriptor], arch: str, place: str) -> ImageBlob:
    fitting = [one for one in described if one.machine is not None and _is_for(one.machine, arch)]
    if not fitting:
        there = sorted({f"{one.machine.os}/{one.machine.architecture}" for one in described if one.machine})
        text = f"The image has no manifest for linux/{arch}, but for [{', '.join(there)}]"
        raise ImageError(text, place=place, hint="Take that platform out of `platforms`, or name another image")
    return _blob(min(fitting, key=lambda one: bool(one.machine and one.machine.variant not in ("", "v8"))))


def _is_for(machine: Machine, arch: str) -> bool:
    """Say whether that is so; an image with data alone is for every architecture."""
    return arch == EVERY_ARCH or (machine.os, machine.architecture) == ("linux", arch)


def _blob(descriptor: Descriptor) -> ImageBlob:
    return ImageBlob(descriptor.media_type, descriptor.digest)
