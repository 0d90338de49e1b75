"""YAML out of JSON's values: one form for each value, so that the same values give the same bytes.

Every text that is not plainly a word stands in double quotes, with escapes for whatever is not printable ASCII: JSON's
own quoting, but for what lies beyond 16 bits, which YAML writes as one character and JSON as two. So no text ends its
line, begins a tag or an alias, or is taken for a number, a date or a truth, by readers of YAML 1.1 or of 1.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = "str | int | bool | Sequence[Value] | Mapping[str, Value] | None"

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_MEANING = frozenset(("true", "false", "yes", "no", "on", "off", "y", "n", "null"))
"""Words that are something else to a reader of YAML 1.1 or 1.2, in any case."""
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def document(value: Mapping[str, Value]) -> str:
    """Write a mapping as one document, its keys in their order."""
    return "".join(f"{line}\n" for line in _lines(value))


def scalar(value: str | int | bool | None) -> str:
    """Write what is no list and no mapping."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if _WORD.fullmatch(value) and value.lower() not in _MEANING:
        return value
    return '"' + "".join(_character(each) for each in value) + '"'


def _lines(value: Mapping[str, Value] | Sequence[Value]) -> list[str]:
    found = []
    if isinstance(value, Mapping):
        for key, each in value.items():
            found += _entry(f"{scalar(key)}:", each)
    else:
        for each in value:
            if isinstance(each, (Mapping, list, tuple)) and each:
                first, *rest = _lines(each)
                found += [f"- {first}", *(f"  {line}" for line in rest)]
            else:
                found.append(f"- {_flow(each)}")
    return found


def _entry(head: str, value: Value) -> list[str]:
    if isinstance(value, (Mapping, list, tuple)) and value:
        return [head, *(f"  {line}" for line in _lines(value))]
    return [f"{head} {_flow(value)}"]


def _flow(value: Value) -> str:
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, (list, tuple)):
        return "[]"
    assert not isinstance(value, Sequence) or isinstance(value, str)
    return scalar(value)


def _character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if " " <= character <= "~":
        return character
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
