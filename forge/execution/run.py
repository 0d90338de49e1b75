"""What running a graph of actions came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from forge.core.errors import Fault, ForgeError
from forge.core.tool import Content


@dataclass(slots=True)
class Run:
    """What a run came to."""

    contents: dict[str, Mapping[str, Content]] = field(default_factory=dict)
    """Action -> its outputs."""
    ran: list[str] = field(default_factory=list)
    cached: int = 0
    remote: frozenset[str] = frozenset()
    """Actions whose results came from the remote cache, and are counted as cached too."""
    failures: dict[str, ForgeError] = field(default_factory=dict)
    abandoned: set[str] = field(default_factory=set)
    """Actions that were not tried, because something that they need failed."""


def faults_of(run: Run) -> tuple[Fault, ...]:
    """List what went wrong, in the order in which it did."""
    return tuple(fault for error in run.failures.values() for fault in error.faults)
