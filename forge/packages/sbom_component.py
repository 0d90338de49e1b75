"""CycloneDX 1.6: components, and the document that lists them.

https://cyclonedx.org/docs/1.6/json/. The document has no time, and its serial number follows from its content, so
that the same image has the same document, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote

from forge.core.tool import Json
from forge.packages.sbom_licence import Licence

SPACE = uuid.UUID("7a9a4649-61a6-41fe-b607-d9355d4ba54c")
"""Namespace of serial numbers."""


@dataclass(frozen=True, slots=True)
class Component:
    """One thing that an image is made of."""

    type: Literal["application", "container", "file", "framework", "library", "machine-learning-model"]
    name: str
    version: str = ""
    purl: str = ""
    sha256: str = ""
    licences: tuple[Licence, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    """Names begin with `forge:`."""
    parts: tuple[Component, ...] = ()
    """What it consists of, such as its files."""
    ancestor: Component | None = None
    """What it was built or converted from."""
    ref: str = ""
    """By which the document refers to it."""

    def document(self) -> dict[str, Json]:
        """Write it in the specification's form; what it has not is left out."""
        found: dict[str, Json] = {
            "type": self.type,
            "bom-ref": self.ref,
            "name": self.name,
            "version": self.version,
            "hashes": [{"alg": "SHA-256", "content": self.sha256}] if self.sha256 else [],
            "licenses": _licences(self.licences),
            "purl": self.purl,
            "pedigree": {"ancestors": [self.ancestor.document()]} if self.ancestor else {},
            "properties": [{"name": name, "value": value} for name, value in sorted(self.properties)],
            "components": [part.document() for part in sorted(self.parts, key=_order)],
        }
        return {key: value for key, value in found.items() if value not in ("", [], {})}


def render(subject: Component, components: Iterable[Component], *, tool: Component) -> bytes:
    """Write the document about `subject`."""
    listed = _referred(sorted(components, key=_order))
    subject = replace(subject, ref="image")
    refs: list[Json] = [each.ref for each in listed]
    body: dict[str, Json] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": "",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [tool.document()]},
            "component": subject.document(),
        },
        "components": [each.document() for each in listed],
        "dependencies": [{"ref": subject.ref, "dependsOn": refs}, *({"ref": ref} for ref in refs)],
    }
    body["serialNumber"] = uuid.uuid5(SPACE, hashlib.sha256(_encode(body)).hexdigest()).urn
    return _encode(body)


def purl(kind: str, name: str, version: str, qualifiers: Mapping[str, str] | None = None, *, space: str = "") -> str:
    """Write a package URL, https://github.com/package-url/purl-spec."""
    path = "/".join(_quoted(part) for part in (space, name) if part)
    given = {key: value for key, value in (qualifiers or {}).items() if value}
    query = "&".join(f"{key}={_quoted(value)}" for key, value in sorted(given.items()))
    return f"pkg:{kind}/{path}" + (f"@{_quoted(version)}" if version else "") + (f"?{query}" if query else "")


def _quoted(text: str) -> str:
    return quote(text, safe=".-_~:")


def _referred(components: Sequence[Component]) -> list[Component]:
    """Give each a reference of its own, and drop what is listed twice."""
    found: dict[str, Component] = {}
    for each in components:
        ref = each.purl or f"{each.type}:{each.name}"
        if ref in found and replace(each, ref=ref) != found[ref]:
            ref = f"{ref}#{each.sha256[:12]}"
        found.setdefault(ref, replace(each, ref=ref))
    return list(found.values())


def _licences(licences: Sequence[Licence]) -> list[Json]:
    if len(licences) == 1 and licences[0].kind == "expression":
        return [{"expression": licences[0].text, "acknowledgement": "declared"}]
    # The schema has either one expression or a list of licences.
    return [
        {"license": {"id" if each.kind == "id" else "name": each.text, "acknowledgement": "declared"}}
        for each in sorted(licences)
    ]


def _order(component: Component) -> tuple[str, str, str, str, str]:
    return (component.type, component.purl.partition("@")[0], component.name, component.version, component.sha256)


def _encode(value: Mapping[str, Json]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


__all__ = ["Component", "purl", "render"]
