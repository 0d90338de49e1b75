"""Whatever a BUILD.toml says, it is a graph or a LoadError: never a traceback."""

from __future__ import annotations

import datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from forge.core.errors import AnalysisError, LoadError
from forge.core.label import Label, parse_patterns
from forge.loading.package import Package, declare
from forge.loading.table import TomlFile, parse_toml
from tests.fakes.workspace import FakeWorkspace

LABELS = st.sampled_from(
    [":a", ":b", "//pkg:a", ":a@cpu_llm_trf", "//toolchains:busybox", "//pkg", ":", "//gone:x", "x"]
)
SCALARS = st.one_of(
    LABELS,
    st.sampled_from(["*", "a.txt", "{platform}", "cpu_llm_trf", "$OUT", "x/", "../x", "", "\0", "{", "ä", "amd64"]),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(),
    st.booleans(),
    st.just(datetime.date(2026, 1, 31)),
)
KEYS = st.sampled_from(
    ["rule", "name", "platforms", "override", "tags", "description", "srcs", "deps", "environment", "argv", "shell",
     "outs", "env", "timeout", "source", "format", "models", "handler", "data", "port", "params", "apps", "labels",
     "image", "cases", "base", "debs", "wheels", "cpu", "trf", "batch_size", "temperature", "nonsense"],
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=5,
)
RULES = st.sampled_from(["command", "compose", "environment", "image", "model", "test"])
GOOD: dict[str, dict[str, object]] = {
    "command": {"shell": "x", "outs": ["a/"]},
    "compose": {"models": [":a"], "handler": "a.txt", "platforms": ["*_trf"]},
    "environment": {"debs": ["x"], "platforms": ["amd64"]},
    "image": {"apps": [":a"], "name": "{platform}"},
    "model": {"source": ":a"},
    "test": {"image": ":a", "cases": "a.txt"},
}


@st.composite
def tables(draw: st.DrawFn) -> object:
    """Draw a table of a rule that is nearly right: a few of its keys have values of any kind."""
    rule = draw(RULES)
    changes = draw(st.dictionaries(KEYS, VALUES, max_size=2))
    table: dict[str, object] = {"rule": rule, **GOOD[rule], **changes}
    return draw(st.one_of(st.just(table), st.just(table), VALUES))


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(["a", "b", "c", "all", "x y"]), tables(), max_size=3))
def test_any_tables_are_a_graph_or_an_error(workspace: FakeWorkspace, given_tables: dict[str, object]) -> None:
    (workspace.root / "targets/pkg").mkdir(parents=True, exist_ok=True)
    (workspace.root / "targets/pkg/a.txt").touch()
    loader = workspace.loader()
    file = TomlFile("BUILD.toml", workspace.root / "targets/pkg", given_tables)
    faults: list[object] = []
    declarations = declare("pkg", [(key, table, file) for key, table in given_tables.items()], loader.rules, faults)  # type: ignore[arg-type]
    loader._packages["pkg"] = Package("pkg", file.folder, declarations, tuple(faults), frozenset(given_tables))  # type: ignore[arg-type]
    try:
        graph = loader.load(parse_patterns(["//pkg:all"]))
        workspace.analyzed(graph)
    except (LoadError, AnalysisError) as error:
        assert all(fault.text and not fault.text.endswith(".") for fault in error.faults)
    else:
        assert all(isinstance(label, Label) for label in graph.requested)


@given(st.one_of(st.binary(max_size=60), st.text(alphabet="a[]{}=.\"'#\n1,-", max_size=40).map(str.encode)))
def test_any_bytes_are_a_table_or_an_error(content: bytes) -> None:
    try:
        file = parse_toml(content, "BUILD.toml", Path())
    except LoadError as error:
        assert error.faults[0].place.startswith("BUILD.toml")
    else:
        assert all(1 <= line <= content.count(b"\n") + 1 for line in file.lines.values())
