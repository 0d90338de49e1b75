"""A JSON object read value by value, with every fault collected."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from typing import NoReturn, TypeVar

from forge_runtime.error import Fault

__all__ = ["Table", "parse_json"]

TRUE = frozenset({"true", "yes", "y", "on", "1"})
FALSE = frozenset({"false", "no", "n", "off", "0"})
SHOWN = 40
MAX_UNKNOWN = 8
"""Unknown keys that are named."""

Default = TypeVar("Default")
Value = TypeVar("Value")


def parse_json(text: str) -> object:
    """Parse strict JSON; raise ValueError for all else, however deep or long."""
    try:
        value: object = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("Nested too deeply") from None
    return value


class Table:
    """One JSON object; readers take a value, or its default, and note what is wrong.

    Where there is an environment, a variable stands before the object's own value: the one that a reader
    is given as `env`, and before that `FORGE_<PLACE>_<KEY>`. All are checked: a wrong value is never
    hidden by a right one.
    """

    def __init__(
        self,
        values: object,
        *,
        place: str = "",
        faults: list[Fault],
        environ: Mapping[str, str] | None = None,
        variables: set[str] | None = None,
    ) -> None:
        self.faults = faults
        self.variables: set[str] = set() if variables is None else variables
        """Names of all variables that a reader has looked for."""
        self._place = place
        self._environ = environ or {}
        self._known: list[str] = []
        self._values: dict[str, object] = {}
        if isinstance(values, dict):
            self._values = values
        else:
            self._note(place or "top level", f"Expected an object, got {_shown(values)}")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def take(self, key: str) -> object:
        """Return what stands under `key` unchecked, None when it is missing."""
        self._known.append(key)
        return self._values.get(key)

    def table(self, key: str) -> Table:
        """Return the object under `key`, empty when it is missing."""
        self._known.append(key)
        return Table(
            self._values.get(key, {}),
            place=self._path(key),
            faults=self.faults,
            environ=self._environ,
            variables=self.variables,
        )

    def text(self, key: str, default: Default, *, env: str | None = None) -> str | Default:
        """Read a string that is not empty."""

        def check(value: object) -> str:
            if isinstance(value, str) and value and "\0" not in value:
                return value
            raise ValueError("a string that is not empty")

        return self._read(key, default, check, env, str)

    def choice(self, key: str, default: Value, choices: Mapping[str, Value], *, env: str | None = None) -> Value:
        """Read one of the names in `choices`."""

        def check(value: object) -> Value:
            if isinstance(value, str) and value in choices:
                return choices[value]
            raise ValueError(f"one of [{', '.join(choices)}]")

        return self._read(key, default, check, env, str)

    def truth(self, key: str, default: Default, *, env: str | None = None) -> bool | Default:
        """Read a boolean; in the environment also yes, no, on, off, 1 and 0."""

        def check(value: object) -> bool:
            if isinstance(value, bool):
                return value
            raise ValueError("true or false")

        return self._read(key, default, check, env, _truth_from_text)

    def integer(
        self, key: str, default: Default, minimum: int, maximum: int, *, env: str | None = None
    ) -> int | Default:
        """Read a whole number between two bounds, both allowed."""

        def check(value: object) -> int:
            if isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum:
                return value
            raise ValueError(f"a whole number from {minimum} to {maximum}")

        return self._read(key, default, check, env, _integer_from_text)

    def number(
        self, key: str, default: Default, minimum: float, maximum: float, *, env: str | None = None
    ) -> float | Default:
        """Read a finite number between two bounds, both allowed."""

        def check(value: object) -> float:
            if isinstance(value, (int, float)) and not isinstance(value, bool) and minimum <= value <= maximum:
                return float(value)
            raise ValueError(f"a number from {minimum:g} to {maximum:g}")

        return self._read(key, default, check, env, _number_from_text)

    def require(self, *keys: str) -> None:
        """Note each of `keys` that is missing."""
        for key in keys:
            if key not in self._values:
                self._note(self._path(key), "Missing")

    def close(self) -> None:
        """Note every key that no reader has asked for, the first of many."""
        unknown = [key for key in self._values if key not in self._known]
        for key in unknown[:MAX_UNKNOWN]:
            # A key comes from outside: one of a megabyte is like none of ours.
            near = difflib.get_close_matches(key[:SHOWN], self._known, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else f"; known are [{', '.join(self._known)}]"
            self._note(self._path(key), f"Unknown key{hint}")

    def _read(
        self,
        key: str,
        default: Default,
        check: Callable[[object], Value],
        env: str | None,
        from_text: Callable[[str], object],
    ) -> Value | Default:
        self._known.append(key)
        found: Value | Default = default
        if key in self._values:
            found = self._checked(self._path(key), self._values[key], check, default)
        for name in (env, self._variable(key)):
            if name is not None and name in self._environ:
                text = self._environ[name]
                found = self._checked(name, from_text(text), check, default, shown=text)
        return found

    def _variable(self, key: str) -> str:
        name = "_".join(filter(None, ("FORGE", self._place, key))).replace(".", "_").upper()
        self.variables.add(name)
        return name

    def _checked(
        self,
        place: str,
        value: object,
        check: Callable[[object], Value],
        default: Default,
        *,
        shown: str | None = None,
    ) -> Value | Default:
        try:
            return check(value)
        except ValueError as wanted:
            got = _shown(value if shown is None else shown)
            self._note(place, f"Expected {wanted}, got {got}")
            return default

    def _path(self, key: str) -> str:
        # A key comes from outside: it may be a megabyte long or hold a line feed.
        shown = key if re.fullmatch(r"\w{1,40}", key, re.ASCII) else _shown(key)
        return f"{self._place}.{shown}" if self._place else shown

    def _note(self, place: str, text: str) -> None:
        self.faults.append(Fault(place, text))


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Which of them counts is up to each reader: what one has checked another may not see.
        raise ValueError("A key is there twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"`{name}` is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_object)
"""Made once: json.loads would make one for each request."""


def _truth_from_text(text: str) -> object:
    word = text.strip().lower()
    return True if word in TRUE else False if word in FALSE else text


def _integer_from_text(text: str) -> object:
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()) else text


def _number_from_text(text: str) -> object:
    # Not all that `float` takes: it knows `nan`, and `1_0`.
    return float(text) if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text.strip()) else text


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, int) and value.bit_length() > 256:
        return "a huge number"
    # ASCII, so that a lone surrogate can be logged and sent.
    text = ascii(value)[1:-1] if isinstance(value, str) else json.dumps(value, default=str)
    return f"`{text if len(text) <= SHOWN else text[: SHOWN - 3] + '...'}`"
