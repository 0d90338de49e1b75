"""What happens during a build, as values: the console shows them, a file may record them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from forge.core.action import Action


@dataclass(frozen=True, slots=True)
class ActionStarted:
    """An action was not cached and runs."""

    name: str
    action: Action


@dataclass(frozen=True, slots=True)
class ActionProgress:
    """An action moved on."""

    name: str
    done: int
    """Bytes."""
    total: int
    """Bytes; 0 where it is not known."""


@dataclass(frozen=True, slots=True)
class ActionFinished:
    """An action has ended, or was found in the cache."""

    name: str
    action: Action
    outcome: Literal["ran", "cached", "failed"]
    seconds: float = 0.0
    log: str = ""
    """What it printed."""
    remote: bool = False
    """It was found in the remote cache."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """Content moves between this machine and the remote cache, beside what actions do."""

    way: Literal["Download", "Upload"]
    remote: str
    """Where it comes from or goes to, without credentials."""
    done: int
    """Bytes."""
    total: int
    """Bytes, as far as that is known by now."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many actions the build looks at."""

    actions: int


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that the user should know and that does not stop the build."""

    text: str


Event = ActionStarted | ActionProgress | ActionFinished | Transferred | Plan | Warned
Listener = Callable[[Event], None]
