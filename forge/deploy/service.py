"""A service as it is to be run: what compose files and Kubernetes manifests are written from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from forge.core.errors import UserError
from forge.core.label import Label

USER = 65532
"""Whom forge's images run as, and their group."""
PYTHON = "/usr/bin/python3"
"""The interpreter of every image that has forge's server."""
LIVE, READY = "/healthz", "/readyz"
_LONGEST = 63


@dataclass(frozen=True, slots=True)
class Service:
    """An image that listens, and what it needs of the machine that it runs on."""

    label: Label
    name: str
    """A DNS label, no other service's."""
    image: str
    """Name and tag, or name and digest."""
    port: int
    arch: str = ""
    """Empty where the image is there for several."""
    has_cuda: bool = False
    is_jetson: bool = False
    is_probed: bool = False
    """It is forge's own server: it answers `LIVE` and `READY`, runs as `USER` and drains."""
    drain_s: float = 30.0
    environ: tuple[tuple[str, str], ...] = ()
    """Variables beside those of the image."""
    secrets: tuple[str, ...] = ()
    """Variables whose values are given where it runs, and stand in no file."""

    @property
    def grace_s(self) -> int:
        """Say how long it may take to stop: what it drains, and a little to end."""
        return -int(-self.drain_s // 1) + 5


def service_names(labels: Iterable[Label]) -> dict[Label, str]:
    """Name services as DNS can, by package and name; UserError for two that come to the same."""
    found: dict[str, Label] = {}
    for label in labels:
        name = dns_label("-".join(filter(None, (label.package, label.name))))
        if name in found:
            hint = "Export them one by one, or give one of them another name"
            raise UserError(f"`{found[name]}` and `{label}` would both be called `{name}`", hint=hint)
        found[name] = label
    return {label: name for name, label in found.items()}


def dns_label(text: str) -> str:
    """Make a DNS label (RFC 1035) of a text; of a long one, its beginning and a hash."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not name[:1].isalpha():
        name = f"x-{name}".rstrip("-")
    if len(name) <= _LONGEST:
        return name
    return f"{name[:54].rstrip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def header(command: str, comments: Iterable[str], secrets: Mapping[str, tuple[str, ...]]) -> str:
    """Begin a file: who wrote it, and which secrets it asks for; a comment never ends its line early."""
    lines = [f"Written by `{command}`: change the targets and write it again.", *comments]
    lines += [f"Secrets of {name}: {', '.join(names)}" for name, names in secrets.items()]
    return "".join(f"# {line}\n" for line in lines)
