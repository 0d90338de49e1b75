"""Rules: pure functions from attributes and providers to providers and declared actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forge.core.lock import LockRequest
from forge.core.platform import Platform

LockRequests = Callable[[str, Platform | None, Any], tuple[LockRequest, ...]]
"""A target's own name, its platform and attributes -> the locks that it needs."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as its module registers it."""

    name: str
    attributes: Any
    """Model of its attributes."""
    analyze: Callable[..., Any]
    """(context, attrs) -> Provider."""
    platforms_from: str = ""
    """Attribute whose targets' platforms it takes when it names none itself."""
    locks: LockRequests | None = None
    is_test: bool = False
    needs_toolchain: bool = False
    """Depends on the environment of its platform's toolchain."""
    place: str = ""
    """File of its module."""
