from __future__ import annotations

import pytest

from forge.core.action import Action
from forge.core.artifact import Artifact, Derived, Source
from forge.core.errors import LoadError
from forge.core.graph import ActionGraph
from forge.core.label import Label, parse_patterns
from forge.core.platform import Platform
from forge.core.target import Target, TargetGraph, requested_labels


def action(*needs: str, root: str = "") -> Action:
    inputs: list[tuple[str, Artifact]] = [(name, Derived(name, "out")) for name in needs]
    tree = Derived(root, "tree/") if root else None
    return Action(argv=("x",), inputs=(*inputs, ("source", Source("a.txt"))), root=tree)


ACTIONS = ActionGraph(
    {"base": action(), "a": action(root="base"), "b": action("a", "a", root="base"), "c": action()}, {}, {}
)


def test_an_action_depends_on_its_inputs_and_its_root() -> None:
    assert ACTIONS.dependencies("b") == ("a", "base")


def test_the_closure_has_dependencies_first_and_nothing_else() -> None:
    assert ACTIONS.closure([Derived("b", "out"), Source("a.txt")]) == ("base", "a", "b")


def graph(**deps: str) -> TargetGraph:
    targets = {
        Label("p", name): Target(
            label=Label("p", name),
            rule="command",
            attrs=None,
            platform=None,
            deps={Label("p", dep): (Label("p", dep),) for dep in needs.split()},
            place=f"p/BUILD.toml:{number}",
        )
        for number, (name, needs) in enumerate(deps.items(), 1)
    }
    return TargetGraph(targets, {}, {}, Platform("amd64", "amd64"), (), frozenset())


def test_orders_dependencies_first() -> None:
    names = [label.name for label in graph(a="b c", b="c d", c="d", d="").order()]

    assert names == ["d", "c", "b", "a"]


def test_a_cycle_is_shown_with_its_path_and_place() -> None:
    with pytest.raises(LoadError) as caught:
        graph(a="b", b="c", c="d", d="b").order()

    assert str(caught.value) == (
        "p/BUILD.toml:2: Targets depend on each other: `//p:b` -> `//p:c` -> `//p:d` -> `//p:b`\n"
        "  hint: Take one of these dependencies away"
    )


def test_a_target_may_depend_on_itself_no_more_than_on_others() -> None:
    with pytest.raises(LoadError, match="`//p:a` -> `//p:a`"):
        graph(a="a").order()


def test_a_long_chain_is_no_recursion() -> None:
    chain = graph(**{f"n{number}": f"n{number + 1}" for number in range(3000)}, n3000="")

    assert chain.order()[0] == Label("p", "n3000")


MANUAL = Target(Label("p", "m"), "command", None, None, {}, tags=frozenset({"manual"}))
PLAIN = Target(Label("p", "x"), "command", None, None, {})


@pytest.mark.parametrize(
    ("patterns", "manual", "expected", "outright"),
    [
        (["//p:all"], False, ["x"], []),
        (["//p:all"], True, ["m", "x"], []),
        (["//p:m"], False, ["m"], ["m"]),
        (["//p:all", "//p:x"], False, ["x"], ["x"]),
        (["//p:all", "-//p:x"], False, [], []),
        (["//p:m", "-//p:all"], False, [], []),
        (["//p:m", "-//p:all", "//p:x"], False, ["x"], ["x"]),
    ],
)
def test_knows_what_was_asked_for(patterns: list[str], manual: bool, expected: list[str], outright: list[str]) -> None:
    found, named = requested_labels(parse_patterns(patterns), [MANUAL, PLAIN], lambda label: (label,), manual=manual)

    assert ([label.name for label in found], sorted(label.name for label in named)) == (expected, outright)


def test_what_is_reached_from_an_action_is_all_that_needs_it() -> None:
    artifact = Derived("base", "out")
    first = Action(("true",), inputs=(("in", artifact),), outputs=("out",))
    second = Action(("true",), inputs=(("in", Derived("first", "out")),), outputs=("out",))
    actions = {"base": Action(("true",), outputs=("out",)), "first": first, "second": second, "other": Action(("x",))}
    found = ActionGraph(actions, {}, {})

    assert found.reached(["base"]) == {"base", "first", "second"}
    assert found.reached(["second"]) == {"second"}
    assert found.reached([]) == frozenset()
