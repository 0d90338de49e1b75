"""What one look at the machine or the workspace found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from forge.core.errors import ForgeError

Status = Literal[
    "ok",
    "warning",  # a build works, and something about it will not
    "fault",  # no build works
]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `forge doctor`."""

    check: str
    """What was looked at, in a word or two."""
    status: Status
    text: str
    hint: str = ""
    """What to do about it."""


def fault_of(check: str, error: ForgeError) -> Finding:
    """Make a finding of an error that a build would end with."""
    first, more = error.faults[0], len(error.faults) - 1
    place = f"{first.place}: " if first.place else ""
    text = f"{place}{first.text}{f', and {more} more' if more else ''}"
    return Finding(check, "fault", text, first.hint)


def found(checks: Iterable[tuple[str, Callable[[], Iterable[Finding]]]]) -> Iterator[Finding]:
    """Make each look in turn; one that ends with an error is a finding too."""
    for check, look in checks:
        try:
            yield from look()
        except ForgeError as error:
            yield fault_of(check, error)
        except OSError as error:
            yield Finding(check, "fault", f"`{error.filename or check}`: {error.strerror or error}")
