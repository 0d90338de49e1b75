from __future__ import annotations

import pytest

from forge.analysis.query import evaluate, patterns_of
from forge.core.errors import QueryError
from forge.core.label import Label
from tests.fakes.workspace import FakeWorkspace

COMMAND = "[{}]\nrule = 'command'\nshell = '{}'\nouts = ['o']\ndeps = {}\n"


def ask(workspace: FakeWorkspace, expression: str) -> list[str]:
    for name, text, deps in [
        ("a", "one", "[':b', ':c']"),
        ("b", "two", "[':d']"),
        ("c", "three", "[':d']"),
        ("d", "x", "[]"),
    ]:
        workspace.write(f"parts/{name}", COMMAND.format(name, text, deps))
    workspace.build("".join(path.read_text() for path in sorted((workspace.root / "parts").iterdir())))
    graph = workspace.load("//pkg:all")

    def match(text: str) -> frozenset[Label]:
        names = "abcd" if text == "//pkg:all" else text.removeprefix(":")
        return frozenset(Label("pkg", name) for name in names)

    return [label.name for label in evaluate(expression, graph, match) if label.package == "pkg"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (":a", "a"),
        ("':a'", "a"),
        (":a + :b", "ab"),
        (":a union :b", "ab"),
        ("//pkg:all - :b", "acd"),
        ("//pkg:all except :b except :c", "ad"),
        ("//pkg:all ^ :b", "b"),
        ("(:a + :b) intersect :b", "b"),
        ("set(:a :b)", "ab"),
        ("set()", ""),
        ("deps(:a)", "abcd"),
        ("deps(:a, 1)", "abc"),
        ("deps(:a, 0)", "a"),
        ("deps(:b)", "bd"),
        ("rdeps(//pkg:all, :d)", "abcd"),
        ("rdeps(//pkg:all, :d, 1)", "bcd"),
        ("rdeps(:b, :d)", "bd"),
        ("allpaths(:a, :d)", "abcd"),
        ("allpaths(:b, :c)", ""),
        ("somepath(:a, :d)", "abd"),
        ("somepath(:b, :c)", ""),
        ("kind(command, //pkg:all)", "abcd"),
        ("kind('^image$', //pkg:all)", ""),
        ('filter("a$", //pkg:all)', "a"),
        ("attr(shell, '^t', //pkg:all)", "bc"),
        ("attr(nothing, '', //pkg:all)", ""),
        ("attr(deps, ':c\\]', //pkg:all)", "a"),
        ("attr(name, '^b$', //pkg:all)", "b"),
        ("attr(tags, '^\\[\\]$', :a)", "a"),
        ("kind('command rule', :a)", "a"),
        ("tests(//pkg:all)", ""),
    ],
)
def test_evaluates(workspace: FakeWorkspace, expression: str, expected: str) -> None:
    assert "".join(ask(workspace, expression)) == expected


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("", "Something is missing at column 1"),
        ("deps(:a", "is expected at column 8"),
        ("deps(,", "Something is missing at column 6"),
        ("deps(:a) :b", "`:b` is not expected at column 10"),
        ("deps(:a, x)", "The depth must be a number, not `x`"),
        ("dep(:a)", "Unknown function `dep`"),
        ("kind('(', :a)", "Not a regular expression"),
        ("set(:a", "Something is missing"),
        ("'abc", "Cannot read `'abc` from column 1"),
        (":a +", "Something is missing at column 5"),
    ],
)
def test_says_where_it_cannot_be_read(workspace: FakeWorkspace, expression: str, fault: str) -> None:
    with pytest.raises(QueryError) as caught:
        ask(workspace, expression)

    assert fault in str(caught.value)


def test_lists_the_patterns_to_load() -> None:
    assert patterns_of("deps(//a:b) + kind(x, set(//c //d/...)) - //e:all") == ["//a:b", "//c", "//d/...", "//e:all"]
