"""Queries: sets of targets by their dependencies, in the words of `bazel query`.

expression  = term (('+' | 'union' | '-' | 'except' | '^' | 'intersect') term)*
term        = function '(' … ')' | 'set(' pattern* ')' | '(' expression ')' | pattern
functions   = deps(x[, depth])  rdeps(universe, x[, depth])  kind(regex, x)  filter(regex, x)
              attr(name, regex, x)  tests(x)  somepath(x, y)  allpaths(x, y)
https://bazel.build/query/language
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from forge.core.errors import QueryError
from forge.core.label import Label
from forge.core.target import TargetGraph

_TOKEN = re.compile(r"\s*(?:(\"[^\"]*\"|'[^']*')|([(),+^])|(-(?=\s)|[^\s(),+^\"']+))")
_OPERATORS = {"+": "union", "union": "union", "-": "except", "except": "except",
    "^": "intersect", "intersect": "intersect"}  # fmt: skip
_ARGUMENTS = {
    "deps": "xd", "rdeps": "xxd", "kind": "wx", "filter": "wx", "attr": "wwx", "tests": "x",
    "somepath": "xx", "allpaths": "xx",
}  # fmt: skip

Match = Callable[[str], frozenset[Label]]
"""A pattern -> the targets that it means; ForgeError when it means none."""
Found = frozenset[Label]


def patterns_of(expression: str) -> list[str]:
    """List the patterns in an expression, to be loaded before it is evaluated."""
    found: list[str] = []
    _Parser(expression, lambda text: found.append(text) or frozenset(), None).parse()  # type: ignore[func-returns-value]
    return found


def evaluate(expression: str, graph: TargetGraph, match: Match) -> tuple[Label, ...]:
    """Evaluate an expression over loaded targets, sorted; QueryError says where it cannot be read."""
    return tuple(sorted(_Parser(expression, match, graph).parse()))


@dataclass(slots=True)
class _Parser:
    expression: str
    match: Match
    graph: TargetGraph | None
    tokens: list[tuple[str, int]]
    at: int = 0

    def __init__(self, expression: str, match: Match, graph: TargetGraph | None) -> None:
        self.expression, self.match, self.graph, self.at = expression, match, graph, 0
        self.tokens = list(_tokens(expression))

    def parse(self) -> Found:
        found = self._expression()
        if self.at < len(self.tokens):
            raise self._fault(f"`{self.tokens[self.at][0]}` is not expected")
        return found

    def _expression(self) -> Found:
        left = self._term()
        while self._peek() in _OPERATORS:
            operator = _OPERATORS[self._next()]
            right = self._term()
            left = {"union": left | right, "except": left - right, "intersect": left & right}[operator]
        return left

    def _term(self) -> Found:
        token = self._next()
        if token == "(":
            found = self._expression()
            self._expect(")")
            return found
        if self._peek() == "(" and (token in _ARGUMENTS or token == "set"):
            self._next()
            return self._set() if token == "set" else self._call(token)
        if self._peek() == "(":
            raise self._fault(f"Unknown function `{token}`", f"Known are [{', '.join(sorted(_ARGUMENTS))}, set]")
        return self.match(token.strip("\"'"))

    def _set(self) -> Found:
        found: Found = frozenset()
        while self._peek() != ")":
            found |= self.match(self._next().strip("\"'"))
        self._expect(")")
        return found

    def _call(self, name: str) -> Found:
        sets: list[Found] = []
        words: list[str] = []
        depth: int | None = None
        for number, kind in enumerate(_ARGUMENTS[name]):
            if number and kind == "d" and self._peek() == ")":
                break
            if number:
                self._expect(",")
            if kind == "x":
                sets.append(self._expression())
            elif kind == "w":
                words.append(self._next().strip("\"'"))
            else:
                text = self._next()
                if not text.isdecimal():
                    raise self._fault(f"The depth must be a number, not `{text}`")
                depth = int(text)
        self._expect(")")
        if self.graph is None:
            return frozenset()
        try:
            return _FUNCTIONS[name](self.graph, sets, words, depth)
        except re.error as error:
            raise self._fault(f"Not a regular expression: {error}") from error

    def _peek(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        if not token or (token in ",)" and token):
            raise self._fault("Something is missing")
        self.at += 1
        return token

    def _expect(self, token: str) -> None:
        if self._peek() != token:
            raise self._fault(f"`{token}` is expected")
        self.at += 1

    def _fault(self, text: str, hint: str = "") -> QueryError:
        column = self.tokens[self.at][1] if self.at < len(self.tokens) else len(self.expression)
        return QueryError(f"{text} at column {column + 1} of `{self.expression}`", hint=hint)


def _tokens(expression: str) -> Iterator[tuple[str, int]]:
    at = 0
    while at < len(expression.rstrip()):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise QueryError(f"Cannot read `{expression}` from column {at + 1}", hint="Is a quote not closed?")
        yield match[match.lastindex or 0], match.start(match.lastindex or 0)
        at = match.end()


def _closure(start: Found, edges: Mapping[Label, Found], depth: int | None) -> Found:
    found, front = set(start), set(start)
    while front and (depth is None or depth > 0):
        front = {each for label in front for each in edges.get(label, ())} - found
        found |= front
        depth = None if depth is None else depth - 1
    return frozenset(found)


def _forward(graph: TargetGraph) -> dict[Label, Found]:
    return {label: frozenset(target.dependencies()) for label, target in graph.targets.items()}


def _backward(graph: TargetGraph, within: Found) -> dict[Label, Found]:
    edges: dict[Label, set[Label]] = {}
    for label in within:
        for dep in graph.targets[label].dependencies():
            edges.setdefault(dep, set()).add(label)
    return {label: frozenset(found) for label, found in edges.items()}


def _deps(graph: TargetGraph, sets: list[Found], words: list[str], depth: int | None) -> Found:
    return _closure(sets[0], _forward(graph), depth)


def _rdeps(graph: TargetGraph, sets: list[Found], words: list[str], depth: int | None) -> Found:
    universe = _closure(sets[0], _forward(graph), None)
    return _closure(sets[1] & universe, _backward(graph, universe), depth)


def _allpaths(graph: TargetGraph, sets: list[Found], words: list[str], depth: int | None) -> Found:
    below = _closure(sets[0], _forward(graph), None)
    return below & _closure(sets[1] & below, _backward(graph, below), None)


def _somepath(graph: TargetGraph, sets: list[Found], words: list[str], depth: int | None) -> Found:
    edges, came = _forward(graph), {label: label for label in sets[0]}
    front = sorted(sets[0])
    while front:
        label = front.pop(0)
        if label in sets[1]:
            path = [label]
            while came[path[-1]] != path[-1]:
                path.append(came[path[-1]])
            return frozenset(path)
        for each in sorted(edges.get(label, ())):
            if each not in came:
                came[each] = label
                front.append(each)
    return frozenset()


def _kind(graph: TargetGraph, sets: list[Found], words: list[str], depth: int | None) -> Found:
    # Bazel says `image rule`, and people write both.
    def kinds(label: Label) -> tuple[str, str]:
        return graph.targets[label].rule, f"{graph.targets[label].rule} rule"

    return frozenset(label for label in sets[0] if any(re.search(words[0], each) for each in kinds(label)))


def _filter(graph: TargetGraph, sets: list[Found], words: list[str], depth: int | None) -> Found:
    return frozenset(label for label in sets[0] if re.search(words[0], str(label)))


def _attr(graph: TargetGraph, sets: list[Found], words: list[str], depth: int | None) -> Found:
    def value(label: Label) -> str | None:
        target = graph.targets[label]
        own = {"name": label.name, "tags": sorted(target.tags), "description": target.description}
        found = {**own, **target.declared}.get(words[0])
        return None if found is None else _text(found)

    return frozenset(label for label in sets[0] if (text := value(label)) is not None and re.search(words[1], text))


def _text(value: object) -> str:
    """Write an attribute as Bazel does: a list as `[a, b]`, so that a pattern can tell a tag from part of another."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _tests(graph: TargetGraph, sets: list[Found], words: list[str], depth: int | None) -> Found:
    return frozenset(label for label in sets[0] if graph.targets[label].rule == "test")


_FUNCTIONS = {
    "deps": _deps, "rdeps": _rdeps, "kind": _kind, "filter": _filter, "attr": _attr, "tests": _tests,
    "somepath": _somepath, "allpaths": _allpaths,
}  # fmt: skip
