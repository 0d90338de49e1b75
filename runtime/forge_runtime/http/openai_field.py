"""The objects in a body of OpenAI's protocol: what is null is not there, and what is not served has neutral values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from forge_runtime.error import Fault, RequestError
from forge_runtime.table import Table

__all__ = ["Neutral", "is_text", "open_table", "refuse_others"]

MAX_KEYS: Final = 64
"""Of one object; each unknown one is compared with all that are known."""

Neutral = Mapping[str, tuple[object, ...]]
"""Parameter that is not served -> values that change nothing, and are taken."""


def open_table(value: object, place: str, faults: list[Fault]) -> Table:
    """Make a table of an object without what is null in it."""
    if not isinstance(value, dict):
        return Table(value, place=place, faults=faults)
    if len(value) > MAX_KEYS:
        raise RequestError(f"An object with {len(value)} keys, at most {MAX_KEYS} are read", param=place or None)
    return Table({key: each for key, each in value.items() if each is not None}, place=place, faults=faults)


def refuse_others(table: Table, place: str, neutral: Neutral) -> None:
    """Note what is asked for and not served, and every key that no reader has asked for."""
    for key, values in neutral.items():
        found = table.take(key)
        if found is None or any(_equal(found, each) for each in values):
            continue
        taken = f"only {' and '.join(f'`{json.dumps(each)}`' for each in values)}" if values else "leave it out"
        table.faults.append(Fault(f"{place}.{key}" if place else key, f"Cannot be honoured here; {taken}"))
    table.close()


def is_text(value: object) -> bool:
    """Say whether this is a string that can be written as UTF-8: one with a lone surrogate cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _equal(found: object, value: object) -> bool:
    # To Python, False is 0: to `logprobs`, it is no and that is yes.
    return found == value and isinstance(found, bool) == isinstance(value, bool)
