"""A check of untyped values that goes on after a fault, so that all are reported at once."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from forge.core.digest import Digest
from forge.core.errors import ActionFailed, Fault
from forge.core.tool import Json
from forge.oci import document

MOST: Final = 100
"""Faults that are kept: a hostile layer could have millions."""

_OCI_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ImageError(ActionFailed):
    """An image breaks the specification or the rules of the house; carries every fault."""


@dataclass(slots=True)
class Check:
    """Values read with the type that they should have; what has another becomes a fault and an empty value."""

    place: str = ""
    faults: list[Fault] = field(default_factory=list)

    def at(self, place: str) -> Check:
        """Make a check of another place that adds to the same faults."""
        return Check(place, self.faults)

    def fault(self, text: str, hint: str = "") -> None:
        """Note one fault."""
        if len(self.faults) < MOST:
            self.faults.append(Fault(text, self.place, hint))

    def finish(self, error: type[ActionFailed]) -> None:
        """Raise `error` with all faults, if there are any."""
        if self.faults:
            raise error(*self.faults)

    def document(self, data: bytes) -> dict[str, Json]:
        """Decode a JSON document that is an object."""
        try:
            return self.object(document.decode(data), "document")
        except ValueError as error:
            self.fault(f"The document is not valid: {error}")
            return {}

    def object(self, value: Json, what: str) -> dict[str, Json]:
        """Read an object."""
        if isinstance(value, dict):
            return value
        self.fault(f"`{what}` is not an object")
        return {}

    def array(self, value: Json, what: str) -> list[Json]:
        """Read an array."""
        if isinstance(value, list):
            return value
        self.fault(f"`{what}` is not an array")
        return []

    def text(self, value: Json, what: str) -> str:
        """Read a string."""
        if isinstance(value, str):
            return value
        self.fault(f"`{what}` is not a string")
        return ""

    def texts(self, value: Json, what: str) -> tuple[str, ...]:
        """Read an array of strings."""
        return tuple(self.text(item, f"{what}[{i}]") for i, item in enumerate(self.array(value, what)))

    def pairs(self, value: Json, what: str) -> dict[str, str]:
        """Read an object of strings."""
        return {key: self.text(item, f"{what}.{key}") for key, item in self.object(value, what).items()}

    def number(self, value: Json, what: str) -> int:
        """Read an integer that is not negative."""
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        self.fault(f"`{what}` is not a number of 0 or more")
        return 0

    def boolean(self, value: Json, what: str) -> bool:
        """Read true or false."""
        if not isinstance(value, bool):
            self.fault(f"`{what}` is neither true nor false")
        return value is True

    def digest(self, value: Json, size: int, what: str) -> Digest | None:
        """Read the specification's form of a digest; SHA-256 is the only algorithm."""
        text = self.text(value, what)
        if _OCI_DIGEST.fullmatch(text):
            return Digest(text.removeprefix("sha256:"), size)
        if text:
            self.fault(f"`{what}` is not `sha256:` and 64 hexadecimal digits, but `{text[:100]}`")
        return None

    def known(self, keys: Collection[str], names: Collection[str]) -> None:
        """Refuse keys that nobody reads: a misspelt one would change nothing, in silence."""
        for key in sorted(set(keys) - set(names)):
            self.fault(f"Unknown key `{key}`", f"Known are [{', '.join(sorted(names))}]")
